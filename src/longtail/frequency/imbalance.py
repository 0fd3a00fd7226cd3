"""How unequal class counts are, in the numbers that the field uses."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency, Unit

Counts = Sequence[int] | Sequence[float] | np.ndarray


def imbalance_factor(counts: Counts) -> float:
    """Largest count divided by the smallest, over the classes that occur.

    Args:
        counts: (C,) occurrences of each class, >= 0. Classes that never occur are left out (``imbalance_summary``
            names how many); NaN where none occurs.

    Source: Cui 2019, §4.1.
    """
    counts = _checked(counts)
    occurring = counts[counts > 0]
    return float(occurring.max() / occurring.min()) if len(occurring) else float("nan")


def gini(counts: Counts) -> float:
    """Gini coefficient of the counts: 0 where all are equal, (C-1)/C where one class has everything.

    Args:
        counts: (C,) occurrences of each class, >= 0, zeros included; NaN where all are 0.
    """
    counts = np.sort(_checked(counts))
    total, size = counts.sum(), len(counts)
    if total == 0:
        return float("nan")
    rank = np.arange(1, size + 1)
    return float(((2 * rank - size - 1) * counts).sum() / (size * total))


def entropy(counts: Counts) -> float:
    """Shannon entropy of the class shares in nats, from 0 (one class) to log C (all equal); NaN where all are 0."""
    counts = _checked(counts)
    if counts.sum() == 0:
        return float("nan")
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum()) + 0.0


def normalised_entropy(counts: Counts) -> float:
    """Entropy divided by log C: 1 where all classes are equally frequent; NaN for fewer than two classes."""
    return entropy(counts) / float(np.log(len(counts))) if len(counts) > 1 else float("nan")


@dataclass(frozen=True)
class ImbalanceSummary:
    """The imbalance of one split in a handful of numbers.

    Args:
        unit: Unit of the counts: pixels, images or instances.
        num_classes: Number of classes, C.
        num_absent: Number of classes that never occur.
        largest: Name of the most frequent class.
        smallest: Name of the least frequent class that occurs.
        factor: Largest count divided by the smallest above zero.
        gini: Gini coefficient, absent classes included.
        entropy: Of the class shares, in nats.
        normalised_entropy: Entropy divided by log C, in [0, 1].
    """

    unit: str
    num_classes: int
    num_absent: int
    largest: str
    smallest: str
    factor: float
    gini: float
    entropy: float
    normalised_entropy: float

    def to_dict(self) -> dict[str, str | int | float]:
        """The same as a dict of plain values."""
        return asdict(self)


def imbalance_summary(frequency: ClassFrequency, unit: Unit = "pixels") -> ImbalanceSummary:
    """Summarise how long the tail is.

    Raises:
        ConfigError: The unit was not counted, or no class occurs.
    """
    counts = frequency.counts(unit)
    if not counts.any():
        raise ConfigError(f"no class has any {unit}", fix="count the training split first")
    occurring = np.flatnonzero(counts)
    return ImbalanceSummary(
        unit=unit,
        num_classes=len(counts),
        num_absent=len(counts) - len(occurring),
        largest=frequency.class_names[int(counts.argmax())],
        smallest=frequency.class_names[int(occurring[counts[occurring].argmin()])],
        factor=imbalance_factor(counts),
        gini=gini(counts),
        entropy=entropy(counts),
        normalised_entropy=normalised_entropy(counts),
    )


def _checked(counts: Counts) -> np.ndarray:
    array = np.asarray(counts, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all() or (array < 0).any():
        raise ConfigError(f"counts {counts!r} are not a list of numbers >= 0", fix="pass one count per class")
    return array
