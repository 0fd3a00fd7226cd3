"""Balancing logit variation: noise on the logits in training, the more the rarer the class."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from longtail.errors import ConfigError
from longtail.losses.cross_entropy import Normalizer, SoftmaxLoss, over_classes
from longtail.losses.label_space import LabelSpace
from longtail.settings import one_of
from longtail.shapes import Logits, Target

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


class BLVLoss(SoftmaxLoss):
    """``CE(o + v |δ|, y)``, δ a clamped normal draw for each logit and v the variation of its class; training only.

    Draws come from torch's generator of the logits' device. The background of boxes, the most frequent of all, does
    not vary.

    Args:
        labels: Classes, background and ignored value, with the training counts.
        sigma: deviation of the normal distribution; 0 is cross-entropy
        limit: draws are clamped to ± this; null for no limit
        signed: whether draws keep their sign; else their absolute value is added
        reference: classes vary by their count relative to the largest class, which then does not vary, or to all
        normalizer: divisor of the sum over the labelled positions: valid (their number), all (the number of
            positions) or sum (1)

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
        labels: LabelSpace,
        *,
        sigma: float = 4.0,
        limit: float | None = 1.0,
        signed: bool = False,
        reference: Reference = "largest",
        normalizer: Normalizer = "valid",
    ) -> None:
        super().__init__(labels, normalizer)
        if sigma < 0 or (limit is not None and limit <= 0):
            raise ConfigError(f"BLV has sigma={sigma}, limit={limit}", fix="give sigma >= 0 and a limit above 0")
        self.sigma = sigma
        self.limit = limit
        self.signed = signed
        variation = variation_of_classes(labels.counts(), reference)
        self.register_buffer("variation", labels.append_background(variation, 0.0), persistent=False)

    def adjusted(self, logits: Logits, target: Target) -> Logits:
        if not self.training or self.sigma == 0:
            return logits
        return logits + self._draw(logits).mul_(over_classes(self.variation, logits))

    def _draw(self, logits: Tensor) -> Tensor:
        dtype = torch.promote_types(logits.dtype, self.variation.dtype)
        draws = torch.randn(logits.shape, dtype=dtype, device=logits.device).mul_(self.sigma)
        if self.limit is not None:
            draws.clamp_(-self.limit, self.limit)
        return draws if self.signed else draws.abs_()
