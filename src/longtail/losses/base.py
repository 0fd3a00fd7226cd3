"""The contract of a classification loss, for pixels and boxes alike."""

from abc import ABC, abstractmethod

from jaxtyping import Float, Integer
from torch import Tensor, nn


class ClassificationLoss(nn.Module, ABC):
    """A loss that owns the reading of its logits: how many it needs, and how they become probabilities.

    Pixels have a grid, ``(n, logits, h, w)``; boxes have none, ``(n, logits)``. Targets hold class ids
    0 … C-1, for boxes also C (background), and ``ignore_index``.

    Args:
        num_classes: Number of classes that ``target`` may name (background included for boxes).
        ignore_index: Target value of positions without a label.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    @property
    def num_logits(self) -> int:
        """Number of outputs that the classifier must have."""
        return self.num_classes

    @abstractmethod
    def forward(self, logits: Float[Tensor, "n logits *grid"], target: Integer[Tensor, "n *grid"]) -> Float[Tensor, ""]:
        """The loss, a scalar; exactly 0 and connected to the graph where nothing is labelled."""

    def probabilities(self, logits: Float[Tensor, "n logits *grid"]) -> Float[Tensor, "n classes *grid"]:
        """Class probabilities of the logits; they sum to 1 over the classes unless the loss says otherwise."""
        return logits.softmax(dim=1)
