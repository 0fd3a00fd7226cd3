"""The contract of a classification loss, for pixels and boxes alike."""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float, Integer
from torch import Tensor, nn

from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency


class ClassificationLoss(nn.Module, ABC):
    """A loss that owns the reading of its logits: how many it needs, and how they become probabilities.

    Pixels have a grid, ``(n, logits, h, w)``; boxes have none, ``(n, logits)``. Targets hold class ids
    0 … C-1, for boxes also C (background), and ``ignore_index``. The logit of class c is column c.

    State that training changes (running counts, gradients) lives in buffers, so that it is saved, resumed and moved
    with the model.

    Args:
        num_classes: Number of classes that ``target`` may name (background included for boxes).
        ignore_index: Target value of positions without a label.

    Raises:
        ConfigError: ``ignore_index`` is the id of a class.
    """

    #: Whether the logit of a class is read against 0 or an output of its own rather than against all other classes:
    #: sigmoids, groups with "others". Group alignment then keeps its level.
    absolute_logits: bool = False

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__()
        check_ignored(ignore_index, num_classes)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    @classmethod
    def from_frequency(
        cls, frequency: ClassFrequency, *, background: bool = False, ignore_index: int = 255, **options: Any
    ) -> "ClassificationLoss":
        """The loss for counted data; losses that read the counts override it.

        Args:
            frequency: Counts of the C foreground classes.
            background: Targets may also be C, the background: boxes.
            ignore_index: Target value of positions without a label.
            **options: Further arguments of the class.
        """
        return cls(frequency.num_classes + background, ignore_index, **options)

    @property
    def num_logits(self) -> int:
        """Number of outputs that the classifier must have."""
        return self.num_classes

    @property
    def initial_bias(self) -> Float[Tensor, " logits"] | None:
        """Bias that a new classifier starts from; None for 0. Losses of sigmoids start at a small probability."""
        return None

    @abstractmethod
    def forward(
        self,
        logits: Float[Tensor, "n logits *grid"],
        target: Integer[Tensor, "n *grid"],
        position_weight: Float[Tensor, "n *grid"] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss, a scalar; exactly 0 and connected to the graph where nothing is labelled.

        Args:
            logits: Of the classifier.
            target: Class ids and ``ignore_index``.
            position_weight: Factor on each position's share of the loss; it does not change what the sum is divided
                by. None for 1.
        """

    def probabilities(self, logits: Float[Tensor, "n logits *grid"]) -> Float[Tensor, "n classes *grid"]:
        """Class probabilities of the logits; they sum to 1 over the classes unless the loss says otherwise."""
        return logits.softmax(dim=1)

    def set_progress(self, fraction: float) -> None:
        """Told before every step which part of the phase is done, in [0, 1); losses with a schedule override it."""


def check_ignored(ignore_index: int, num_classes: int) -> None:
    """Refuse an ``ignore_index`` that is a class, which would then never be trained.

    Raises:
        ConfigError: It is in 0 … C-1.
    """
    if 0 <= ignore_index < num_classes:
        raise ConfigError(
            f"ignore_index {ignore_index} is the id of a class ({num_classes} classes)",
            fix=f"ignore a value that is none: a negative one such as -100, or one from {num_classes} on",
        )
