"""Balancing logit variation: noise on the logits in training, the more the rarer the class."""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency
from longtail.losses.base import ClassificationLoss
from longtail.losses.class_counts import append_background, training_counts
from longtail.losses.cross_entropy import Normalizer, cross_entropy, known_normalizer
from longtail.losses.logit_adjustment import over_classes
from longtail.options import one_of

Reference = Literal["largest", "all"]


def variation_of_classes(counts: Float[Tensor, " c"], reference: Reference = "largest") -> Float[Tensor, " c"]:
    """Size of each class's variation in [0, 1]: ``log(N / n_c)`` over its largest value; 0 where all counts agree.

    Args:
        counts: Samples of each class, at least 1.
        reference: N is the count of the ``largest`` class, which then does not vary, or of ``all`` classes together.

    Raises:
        ConfigError: Another reference.
    """
    largest = one_of("reference", reference, get_args(Reference)) == "largest"
    base = counts.max() if largest else counts.sum()
    rarity = torch.log(base / counts)
    return rarity / rarity.max().where(rarity.max() > 0, 1)


class BLVLoss(ClassificationLoss):
    """``CE(o + v |δ|, y)``, δ a clamped normal draw for each logit and v the variation of its class; training only.

    Draws come from torch's generator of the logits' device. The background of boxes, the most frequent of all, does
    not vary.

    Args:
        variation: Size of each class's variation: ``variation_of_classes``.
        ignore_index: Target value of positions without a label.
        sigma: Deviation of the normal distribution; 0 is cross-entropy.
        limit: Draws are clamped to ± this; None for no limit.
        signed: Add δ instead of ``|δ|``.
        normalizer: See ``cross_entropy.Normalizer``.

    Raises:
        ConfigError: σ below 0, or a limit not above it.

    Source: Wang et al. 2023; that the draws are clamped to ±1 and their absolute value is taken, σ = 4 and the largest
    class as reference are the released code's. With these four draws in five are 1: rare classes mostly get a constant
    added, which other losses of this package (logit adjustment) take away; ``signed=True, limit=None`` with a smaller σ
    is the variation that the abstract speaks of.
    """

    variation: Tensor

    def __init__(
        self,
        variation: Float[Tensor, " classes"],
        ignore_index: int = 255,
        *,
        sigma: float = 4.0,
        limit: float | None = 1.0,
        signed: bool = False,
        normalizer: Normalizer = "valid",
    ) -> None:
        super().__init__(len(variation), ignore_index)
        if sigma < 0 or (limit is not None and limit <= 0):
            raise ConfigError(f"BLV has sigma={sigma}, limit={limit}", fix="give sigma >= 0 and a limit above 0")
        self.sigma = sigma
        self.limit = limit
        self.signed = signed
        self.normalizer = known_normalizer(normalizer)
        self.register_buffer("variation", variation.float(), persistent=False)

    @classmethod
    def from_frequency(  # type: ignore[override]
        cls,
        frequency: ClassFrequency,
        *,
        background: bool = False,
        ignore_index: int = 255,
        reference: Reference = "largest",
        sigma: float = 4.0,
        limit: float | None = 1.0,
        signed: bool = False,
        normalizer: Normalizer = "valid",
    ) -> "BLVLoss":
        """The loss for counted data: instances for boxes, labelled pixels for pixels.

        Args:
            frequency: Counts of the training split.
            background: Boxes are classified.
            ignore_index: Target value of positions without a label.
            reference: See ``variation_of_classes``.
            sigma: Deviation of the draws.
            limit: Limit of the draws.
            signed: Whether draws keep their sign.
            normalizer: See ``cross_entropy.Normalizer``.
        """
        variation = variation_of_classes(training_counts(frequency, background=background), reference)
        return cls(
            append_background(variation, background, 0.0),
            ignore_index,
            sigma=sigma,
            limit=limit,
            signed=signed,
            normalizer=normalizer,
        )

    def forward(
        self,
        logits: Float[Tensor, "n logits *grid"],
        target: Integer[Tensor, "n *grid"],
        position_weight: Float[Tensor, "n *grid"] | None = None,
    ) -> Float[Tensor, ""]:
        if self.training and self.sigma > 0:
            logits = logits + self._draw(logits).mul_(over_classes(self.variation, logits))
        return cross_entropy(
            logits,
            target,
            ignore_index=self.ignore_index,
            normalizer=self.normalizer,
            position_weight=position_weight,
        )

    def _draw(self, logits: Tensor) -> Tensor:
        dtype = torch.promote_types(logits.dtype, self.variation.dtype)
        draws = torch.randn(logits.shape, dtype=dtype, device=logits.device).mul_(self.sigma)
        if self.limit is not None:
            draws.clamp_(-self.limit, self.limit)
        return draws if self.signed else draws.abs_()
