"""What losses around another loss have in common."""

from abc import ABC

from jaxtyping import Float
from torch import Tensor

from longtail.losses.base import ClassificationLoss
from longtail.shapes import Logits, Probabilities, Scalar, Target


class WrappedLoss(ClassificationLoss, ABC):
    """A loss that changes what another one sees; the other owns the logits and their reading.

    Args:
        loss: The other loss.
    """

    def __init__(self, loss: ClassificationLoss) -> None:
        super().__init__(loss.labels)
        self.loss = loss
        self.absolute_logits = loss.absolute_logits

    @property
    def num_logits(self) -> int:
        """The other loss's."""
        return self.loss.num_logits

    @property
    def initial_bias(self) -> Float[Tensor, " logits"] | None:
        """The other loss's."""
        return self.loss.initial_bias

    def probabilities(self, logits: Logits) -> Probabilities:
        """The other loss's."""
        return self.loss.probabilities(logits)

    def normalise(self, total: Scalar, target: Target) -> Scalar:
        """As the other loss."""
        return self.loss.normalise(total, target)

    def set_progress(self, fraction: float) -> None:
        """Hand on to the other loss."""
        self.loss.set_progress(fraction)

    def _of_labels(self, values: Float[Tensor, " classes"], target: Target) -> Tensor:
        """The value of each position's label; any value where there is no label."""
        return values[target.where(target != self.ignore_index, 0)]
