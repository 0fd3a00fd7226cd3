"""Training counts of the classes as the losses read them."""

import torch
from jaxtyping import Float
from torch import Tensor

from longtail.frequency.counts import ClassFrequency, Unit


def training_counts(
    frequency: ClassFrequency, *, background: bool = False, unit: Unit | None = None
) -> Float[Tensor, " c"]:
    """Samples of each of the C foreground classes, at least 1: a class that training never shows has no logarithm.

    Args:
        frequency: Counts of the training split.
        background: Whether boxes are classified.
        unit: What a sample is; None for an instance where boxes are classified, else a pixel.

    Raises:
        ConfigError: The unit was not counted.
    """
    counts = frequency.counts(unit or ("instances" if background else "pixels"))
    return torch.tensor(counts, dtype=torch.float64).clamp(min=1)


def append_background(values: Float[Tensor, " c"], background: bool, value: float) -> Float[Tensor, " classes"]:
    """Values of the foreground classes, and ``value`` for the background where there is one; float32."""
    rest = values.new_full((int(background),), value)
    return torch.cat([values, rest]).float()
