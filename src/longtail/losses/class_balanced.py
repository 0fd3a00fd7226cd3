"""Class-balanced loss: any loss, its positions weighted by the effective number of samples of their class."""

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


def effective_number_weights(counts: Float[Tensor, " c"], beta: float = 0.9999) -> Float[Tensor, " c"]:
    """Weights ``∝ (1 - β) / (1 - β^n)``, their mean 1: uniform for β = 0, the inverse counts for β -> 1.

    Beyond about ``1 / (1 - β)`` samples further ones count for nothing.

    Args:
        counts: Samples of each class, at least 1, in float64.
        beta: β in [0, 1); 1 gives the inverse counts, the limit.

    Raises:
        ConfigError: β outside [0, 1].

    Source: Cui et al. 2019, Eq. 2 and 4 (the weights sum to the number of classes).
    """
    if not 0 <= beta <= 1:
        raise ConfigError(f"beta of the effective number is {beta}", fix="give a value in [0, 1]; usual is 0.9999")
    if beta == 1:
        weights = 1 / counts
    else:
        # β^n = exp(n log β); expm1 keeps the digits where n (1 - β) is small
        logarithm = torch.log(torch.tensor(beta, dtype=counts.dtype))
        weights = (1 - beta) / -torch.expm1(counts * logarithm)
    return weights / weights.mean()


class ClassBalancedLoss(WrappedLoss):
    """Another loss whose positions weigh as the effective number of samples of their class says.

    The weight is the loss's ``position_weight``: what the sum is divided by stays. The background of boxes weighs 1,
    the mean weight of the classes.

    A sample is an instance for boxes and an image that shows the class for pixels: neighbouring pixels say the same,
    which is what the effective number is about, and with pixel counts in the millions no usual β would tell classes
    apart.

    Args:
        loss: The loss that is weighted; it owns the logits.
        weights: Weight of each class that the target may name.

    Raises:
        ConfigError: Not one weight a class.

    Source: Cui et al. 2019.
    """

    weights: Tensor

    def __init__(self, loss: ClassificationLoss, weights: Float[Tensor, " classes"]) -> None:
        super().__init__(loss)
        self.register_buffer("weights", self._one_a_class(weights, "class weights", "weight"), persistent=False)

    @classmethod
    def from_frequency(  # type: ignore[override]
        cls,
        frequency: ClassFrequency,
        *,
        background: bool = False,
        ignore_index: int = 255,
        loss: str | Mapping[str, Any] = "cross_entropy",
        beta: float = 0.9999,
        unit: Unit | None = None,
    ) -> "ClassBalancedLoss":
        """The loss for counted data.

        Args:
            frequency: Counts of the training split.
            background: Boxes are classified.
            ignore_index: Target value of positions without a label.
            loss: The loss that is weighted, as ``build_loss`` reads it: ``cross_entropy``, ``focal``, ….
            beta: See ``effective_number_weights``.
            unit: What a sample is; None for an instance of boxes, an image of pixels.
        """
        counts = training_counts(frequency, background=background, unit=unit or sample_unit(background))
        weights = append_background(effective_number_weights(counts, beta), background, 1.0)
        return cls(build_loss(loss, frequency, background=background, ignore_index=ignore_index), weights)

    def forward(
        self,
        logits: Float[Tensor, "n logits *grid"],
        target: Integer[Tensor, "n *grid"],
        position_weight: Float[Tensor, "n *grid"] | None = None,
    ) -> Float[Tensor, ""]:
        target = target.long()
        weight = self.weights[target.where(target != self.ignore_index, 0)]
        return self.loss(logits, target, weight if position_weight is None else weight * position_weight)


def sample_unit(background: bool) -> Unit:
    """What an independent sample of a class is."""
    return "instances" if background else "images"
