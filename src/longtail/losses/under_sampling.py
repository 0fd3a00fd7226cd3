"""Under-sampling: positions of frequent classes are left out at random."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency, Unit
from longtail.losses.base import ClassificationLoss
from longtail.losses.build import build_loss
from longtail.losses.class_counts import append_background, training_counts
from longtail.losses.wrapped import WrappedLoss


def keep_probabilities(counts: Float[Tensor, " c"], quantile: float = 0.5) -> Float[Tensor, " c"]:
    """``min(1, n_ref / n)``, with n_ref the quantile of the counts: classes above it are all thinned to n_ref.

    Args:
        counts: Samples of each class, at least 1.
        quantile: 0 thins every class to the rarest, 0.5 to the median, 1 none.

    Raises:
        ConfigError: A quantile outside [0, 1].

    Source: pixel-level under-sampling of MEDOE Table 2; the paper names no rate. Thinning to the rarest class would
        leave one pixel in 10^4 or less on real data.
    """
    if not 0 <= quantile <= 1:
        raise ConfigError(f"quantile of the under-sampling is {quantile}", fix="give a value in [0, 1]")
    return (torch.quantile(counts, quantile) / counts).clamp(max=1)


class UnderSamplingLoss(WrappedLoss):
    """Another loss that sees each position with the probability of its class; all of them outside of training.

    Positions left out are ignored: they do not count in what the sum is divided by. They are drawn anew in every step
    from torch's generator. The background of boxes, which the detector's own sampling thins, is always kept.

    Args:
        loss: The loss of the positions kept; it owns the logits.
        keep: Probability of each class that the target may name.

    Raises:
        ConfigError: Not one probability a class.

    Source: MEDOE Table 2 (under-sampling).
    """

    keep: Tensor

    def __init__(self, loss: ClassificationLoss, keep: Float[Tensor, " classes"]) -> None:
        super().__init__(loss)
        self.register_buffer("keep", self._one_a_class(keep, "probabilities", "probability"), persistent=False)

    @classmethod
    def from_frequency(  # type: ignore[override]
        cls,
        frequency: ClassFrequency,
        *,
        background: bool = False,
        ignore_index: int = 255,
        loss: str | Mapping[str, Any] = "cross_entropy",
        quantile: float = 0.5,
        unit: Unit | None = None,
    ) -> "UnderSamplingLoss":
        """The loss for counted data.

        Args:
            frequency: Counts of the training split.
            background: Boxes are classified.
            ignore_index: Target value of positions without a label.
            loss: The loss of the positions kept, as ``build_loss`` reads it.
            quantile: See ``keep_probabilities``.
            unit: What is counted; None for pixels, or instances of boxes.
        """
        counts = training_counts(frequency, background=background, unit=unit)
        keep = append_background(keep_probabilities(counts, quantile), background, 1.0)
        return cls(build_loss(loss, frequency, background=background, ignore_index=ignore_index), keep)

    def forward(
        self,
        logits: Float[Tensor, "n logits *grid"],
        target: Integer[Tensor, "n *grid"],
        position_weight: Float[Tensor, "n *grid"] | None = None,
    ) -> Float[Tensor, ""]:
        target = target.long()
        if self.training:
            keep = self.keep[target.where(target != self.ignore_index, 0)]
            target = target.where(torch.rand_like(keep) < keep, self.ignore_index)
        return self.loss(logits, target, position_weight)
