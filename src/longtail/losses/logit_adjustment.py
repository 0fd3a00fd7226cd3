"""Logit-adjusted cross-entropy: the classifier is trained with the prior added, and read without it."""

import math

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency
from longtail.losses.base import ClassificationLoss
from longtail.losses.class_counts import training_counts
from longtail.losses.cross_entropy import Normalizer, cross_entropy, known_normalizer


def log_prior(
    counts: Float[Tensor, " c"], *, background: bool = False, background_share: float | None = None
) -> Float[Tensor, " classes"]:
    r"""Logarithm of each class's share, in units of the uniform one.

    Nobody counts the background of boxes: its share is the sampler's doing. Without it, the background's value is 0
    and the foreground's are :math:`\log C π_c`, with :math:`π` within the foreground. A classifier read without its
    prior multiplies the odds of class c against the background by :math:`1 / C π_c`, whose mean over the foreground is
    1: classes are balanced among each other, and objects against background are left as they are.

    Args:
        counts: Samples of each of the C foreground classes, at least 1.
        background: Whether there is a background.
        background_share: Its share of the boxes that are classified, where it is to be balanced too.

    Raises:
        ConfigError: A share outside (0, 1).
    """
    if background_share is not None and not 0 < background_share < 1:
        raise ConfigError(f"background_share is {background_share}", fix="give a share between 0 and 1, or none")
    share = counts / counts.sum()
    if not background:
        return torch.log(share * len(share)).float()
    if background_share is None:
        return torch.cat([torch.log(share * len(share)), share.new_zeros(1)]).float()
    every = torch.cat([share * (1 - background_share), share.new_full((1,), background_share)])
    return (torch.log(every) + math.log(len(every))).float()


class LogitAdjustedLoss(ClassificationLoss):
    """``CE(o + τ log π, y)``: consistent for the balanced error where τ = 1; τ = 0 is cross-entropy.

    Args:
        prior: Logarithm of each class's share, up to a constant: ``log_prior``.
        ignore_index: Target value of positions without a label.
        tau: τ >= 0.
        normalizer: See ``cross_entropy.Normalizer``.

    Raises:
        ConfigError: τ below 0.

    Source: Menon et al. 2021, Eq. 10.
    """

    prior: Tensor

    def __init__(
        self,
        prior: Float[Tensor, " classes"],
        ignore_index: int = 255,
        *,
        tau: float = 1.0,
        normalizer: Normalizer = "valid",
    ) -> None:
        super().__init__(len(prior), ignore_index)
        if tau < 0:
            raise ConfigError(f"tau of the logit adjustment is {tau}", fix="give a value >= 0; usual is 1")
        self.tau = tau
        self.normalizer = known_normalizer(normalizer)
        self.register_buffer("prior", prior.float(), persistent=False)

    @classmethod
    def from_frequency(  # type: ignore[override]
        cls,
        frequency: ClassFrequency,
        *,
        background: bool = False,
        ignore_index: int = 255,
        background_share: float | None = None,
        tau: float = 1.0,
        normalizer: Normalizer = "valid",
    ) -> "LogitAdjustedLoss":
        """The loss for counted data: shares of instances for boxes, of labelled pixels for pixels.

        Args:
            frequency: Counts of the training split.
            background: Boxes are classified.
            ignore_index: Target value of positions without a label.
            background_share: See ``log_prior``.
            tau: τ >= 0.
            normalizer: See ``cross_entropy.Normalizer``.
        """
        counts = training_counts(frequency, background=background)
        prior = log_prior(counts, background=background, background_share=background_share)
        return cls(prior, ignore_index, tau=tau, normalizer=normalizer)

    def forward(
        self,
        logits: Float[Tensor, "n logits *grid"],
        target: Integer[Tensor, "n *grid"],
        position_weight: Float[Tensor, "n *grid"] | None = None,
    ) -> Float[Tensor, ""]:
        return cross_entropy(
            logits + self.tau * over_classes(self.prior, logits),
            target,
            ignore_index=self.ignore_index,
            normalizer=self.normalizer,
            position_weight=position_weight,
        )


def over_classes(values: Float[Tensor, " logits"], logits: Float[Tensor, "n logits *grid"]) -> Tensor:
    """One value a logit, shaped to be added to logits."""
    return values.view(-1, *[1] * (logits.ndim - 2))
