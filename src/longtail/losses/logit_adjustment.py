"""Logit-adjusted cross-entropy: the classifier is trained with the prior added, and read without it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from longtail.errors import ConfigError
from longtail.losses.cross_entropy import Normalizer, SoftmaxLoss, over_classes
from longtail.losses.label_space import LabelSpace
from longtail.shapes import Logits, Target


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


class LogitAdjustedLoss(SoftmaxLoss):
    """``CE(o + τ log π, y)``: consistent for the balanced error where τ = 1; τ = 0 is cross-entropy.

    The prior π is the share of instances for boxes, of labelled pixels for pixels.

    Args:
        labels: Classes, background and ignored value, with the training counts.
        tau: τ >= 0, the weight of the prior
        background_share: share of the background among the boxes that are classified, to balance it as well; when not
            given, classes are balanced among each other and objects against background are left as they are
        normalizer: divisor of the sum over the labelled positions: valid (their number), all (the number of
            positions) or sum (1)

    Raises:
        ConfigError: τ below 0.

    Source: Menon et al. 2021, Eq. 10.
    """

    prior: Tensor

    def __init__(
        self,
        labels: LabelSpace,
        *,
        tau: float = 1.0,
        background_share: float | None = None,
        normalizer: Normalizer = "valid",
    ) -> None:
        super().__init__(labels, normalizer)
        if tau < 0:
            raise ConfigError(f"tau of the logit adjustment is {tau}", fix="give a value >= 0; usual is 1")
        self.tau = tau
        prior = log_prior(labels.counts(), background=labels.background, background_share=background_share)
        self.register_buffer("prior", prior, persistent=False)

    def adjusted(self, logits: Logits, target: Target) -> Logits:
        return logits + self.tau * over_classes(self.prior, logits)
