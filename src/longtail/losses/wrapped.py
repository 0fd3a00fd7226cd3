"""What losses around another loss have in common."""

from abc import ABC

from jaxtyping import Float
from torch import Tensor

from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss


class WrappedLoss(ClassificationLoss, ABC):
    """A loss that changes what another one sees; the other owns the logits and their reading.

    Args:
        loss: The other loss.
    """

    def __init__(self, loss: ClassificationLoss) -> None:
        super().__init__(loss.num_classes, loss.ignore_index)
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

    def probabilities(self, logits: Float[Tensor, "n logits *grid"]) -> Float[Tensor, "n classes *grid"]:
        """The other loss's."""
        return self.loss.probabilities(logits)

    def set_progress(self, fraction: float) -> None:
        """Hand on to the other loss."""
        self.loss.set_progress(fraction)

    def _one_a_class(self, values: Float[Tensor, " classes"], what: str, one: str) -> Float[Tensor, " classes"]:
        """The values in single precision.

        Raises:
            ConfigError: Not one a class.
        """
        if len(values) != self.num_classes:
            raise ConfigError(
                f"{len(values)} {what} for {self.num_classes} classes", fix=f"give one {one} for each class"
            )
        return values.float()
