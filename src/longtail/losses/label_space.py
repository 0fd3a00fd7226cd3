"""The labels that a loss is built for, and how often training shows them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency, Unit


@dataclass(frozen=True)
class LabelSpace:
    """The values that a target may hold.

    Args:
        num_classes: Number of classes that the target may name; for boxes the background is the last of them.
        background: Whether the last class is the background: boxes.
        ignore_index: Target value of positions without a label.
        frequency: Counts of the C foreground classes in the training split, for losses that read them.

    Raises:
        ConfigError: ``ignore_index`` is the id of a class, or other classes were counted.
    """

    num_classes: int
    background: bool = False
    ignore_index: int = 255
    frequency: ClassFrequency | None = None

    def __post_init__(self) -> None:
        if 0 <= self.ignore_index < self.num_classes:
            raise ConfigError(
                f"ignore_index {self.ignore_index} is the id of a class ({self.num_classes} classes)",
                fix=f"ignore a value that is none: a negative one such as -100, or one from {self.num_classes} on",
            )
        if self.frequency is not None and self.frequency.num_classes != self.num_foreground:
            raise ConfigError(
                f"counts of {self.frequency.num_classes} classes for {self.num_foreground} foreground classes",
                fix="count the classes that the loss is for",
            )

    @classmethod
    def of_pixels(cls, frequency: ClassFrequency, ignore_index: int = 255) -> "LabelSpace":
        """Labels of a counted segmentation data set."""
        return cls(frequency.num_classes, False, ignore_index, frequency)

    @classmethod
    def of_boxes(cls, frequency: ClassFrequency, ignore_index: int = -100) -> "LabelSpace":
        """Labels of a counted detection data set: its classes, then the background."""
        return cls(frequency.num_classes + 1, True, ignore_index, frequency)

    @property
    def num_foreground(self) -> int:
        """Number of classes that are counted, C."""
        return self.num_classes - self.background

    def counted(self) -> ClassFrequency:
        """The counts.

        Raises:
            ConfigError: There are none.
        """
        if self.frequency is None:
            raise ConfigError(
                "the loss reads how often each class occurs, but has no counts",
                fix="pass LabelSpace.of_pixels(frequency) or LabelSpace.of_boxes(frequency)",
            )
        return self.frequency

    def counts(self, unit: Unit | None = None) -> Float[Tensor, " c"]:
        """Samples of each foreground class, at least 1: a class that training never shows has no logarithm.

        Args:
            unit: Unit of a sample; None: instances for boxes, pixels for pixels.

        Raises:
            ConfigError: The unit was not counted.
        """
        counts = self.counted().counts(unit or ("instances" if self.background else "pixels"))
        return torch.tensor(counts, dtype=torch.float64).clamp(min=1)

    def independent_samples(self, unit: Unit | None = None) -> Float[Tensor, " c"]:
        """``counts`` of independent samples: instances for boxes, images for pixels.

        Neighbouring pixels are not independent.

        Args:
            unit: Another unit of a sample.
        """
        return self.counts(unit or ("instances" if self.background else "images"))

    def append_background(self, values: Float[Tensor, " c"], value: float) -> Float[Tensor, " classes"]:
        """Values of the foreground classes, then ``value`` for the background where there is one; float32."""
        return torch.cat([values, values.new_full((int(self.background),), value)]).float()
