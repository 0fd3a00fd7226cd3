"""Class-balanced loss: any loss, its positions weighted by the effective number of samples of their class."""

import torch
from jaxtyping import Float
from torch import Tensor

from longtail.errors import ConfigError
from longtail.frequency.counts import Unit
from longtail.losses.build import LossSpec, build_loss
from longtail.losses.label_space import LabelSpace
from longtail.losses.wrapped import WrappedLoss
from longtail.shapes import Logits, PositionWeight, Scalar, Target


def effective_number_weights(counts: Float[Tensor, " c"], beta: float = 0.9999) -> Float[Tensor, " c"]:
    """Weights ``∝ (1 - β) / (1 - β^n)``, their mean 1: uniform for β = 0, the inverse counts for β -> 1.

    Samples beyond about ``1 / (1 - β)`` hardly count.

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
    """Weight the positions of another loss by the effective number of samples of their class.

    The weight is the loss's ``position_weight``: the divisor of the sum stays. The background of boxes weighs 1,
    the mean weight of the classes.

    A sample is an instance for boxes and an image that shows the class for pixels: neighbouring pixels are not independent,
    which is the idea of the effective number. With pixel counts in the millions, no usual β would distinguish classes.

    Args:
        labels: Classes, background and ignored value, with the training counts.
        loss: the loss that is weighted, by name or as {name: focal, gamma: 1}; it owns the logits
        beta: β in [0, 1]: 0 weighs all classes alike, 1 by the inverse counts
        unit: unit of a sample: images, instances or pixels; instances of boxes and images of pixels when not given

    Source: Cui et al. 2019.
    """

    weights: Tensor

    def __init__(
        self,
        labels: LabelSpace,
        *,
        loss: LossSpec = "cross_entropy",
        beta: float = 0.9999,
        unit: Unit | None = None,
    ) -> None:
        super().__init__(build_loss(loss, labels))
        weights = effective_number_weights(labels.independent_samples(unit), beta)
        self.register_buffer("weights", labels.append_background(weights, 1.0), persistent=False)

    def forward(self, logits: Logits, target: Target, position_weight: PositionWeight = None) -> Scalar:
        target = target.long()
        weight = self._of_labels(self.weights, target)
        return self.loss(logits, target, weight if position_weight is None else weight * position_weight)
