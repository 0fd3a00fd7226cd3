"""How sure a score is: intervals from draws of the images with replacement, the same draws for all that is compared."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups

_BLOCK = 512  # draws worked on at once
ALL = "all"  #: Name of all classes together, next to the names of groups.

#: Weights of the images in some draws -> metric -> scores of every class in these draws, NaN where undefined.
DrawnScores = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Draws:
    """Draws of as many images as there are, with replacement, a block of draws at a time.

    Args:
        images: Number of images.
        count: Number of draws.
        seed: Of the random numbers: the same seed pairs the draws of several runs.

    Raises:
        ConfigError: There are no images or no draws.

    Source: Efron (1979), "Bootstrap methods: another look at the jackknife".
    """

    images: int
    count: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images < 1 or self.count < 1:
            raise ConfigError(f"{self.count} draws of {self.images} images", fix="give at least one of each")

    def __iter__(self) -> Iterator[Float32[np.ndarray, "images draws"]]:
        """How often each image occurs in each draw of a block."""
        random = np.random.default_rng(self.seed)
        for start in range(0, self.count, _BLOCK):
            size = min(_BLOCK, self.count - start)
            chosen = random.integers(self.images, size=(size, self.images))
            cells = (chosen + np.arange(size)[:, None] * self.images).ravel()
            counts = np.bincount(cells, minlength=size * self.images).reshape(size, self.images)
            yield np.ascontiguousarray(counts.T, dtype=np.float32)


@dataclass(frozen=True)
class Interval:
    """A score, or a difference of two, with its bootstrap interval.

    Attributes:
        mean: Mean over the draws.
        low: Lower end of the interval.
        high: Upper end of the interval.
        above: Share of the draws above 0.
    """

    mean: float
    low: float
    high: float
    above: float

    @property
    def told_from_chance(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def drawn_group_means(
    scores: Sequence[DrawnScores], groups: CategoryGroups, draws: Draws
) -> list[dict[str, Float[np.ndarray, "draws groups"]]]:
    """Means over all classes, then over every group, in every draw.

    Args:
        scores: What is compared; each sees the same draws.
        groups: Partition of the classes.
        draws: The draws.

    Returns:
        For each score: metric -> one row for each draw; NaN where a draw has no class of the group.
    """
    blocks: list[dict[str, list[np.ndarray]]] = [{} for _ in scores]
    for weights in draws:
        for score, found in zip(scores, blocks, strict=True):
            for metric, values in score(weights).items():
                means = [_means(values[members]) for members in _everything(groups)]
                found.setdefault(metric, []).append(np.stack(means, axis=1))
    return [{metric: np.concatenate(parts) for metric, parts in found.items()} for found in blocks]


def intervals_of(
    means: Float[np.ndarray, "draws groups"],
    groups: CategoryGroups,
    reference: Float[np.ndarray, "others groups"] | None = None,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Percentile interval of the mean over all classes and over every group.

    Args:
        means: Of one metric, as of ``drawn_group_means``.
        groups: Partition of the classes.
        reference: Means of another run in the same draws; then the intervals are of the difference to it.
        confidence: Share of the draws inside the interval.

    Returns:
        Group -> interval; ``all`` first. A group without objects in any draw is left out.

    Raises:
        ConfigError: The runs were drawn differently.
    """
    if reference is not None and reference.shape != means.shape:
        raise ConfigError(
            f"draws of shape {means.shape} against {reference.shape}", fix="score both on the same images and draws"
        )
    result = {}
    for place, name in enumerate((ALL, *groups.names)):
        values = means[:, place] - (0 if reference is None else reference[:, place])
        values = values[~np.isnan(values)]
        if len(values):
            low, high = np.quantile(values, ((1 - confidence) / 2, (1 + confidence) / 2))
            result[name] = Interval(float(values.mean()), float(low), float(high), float((values > 0).mean()))
    return result


def _everything(groups: CategoryGroups) -> Iterator[list[int]]:
    yield list(range(groups.num_classes))
    yield from map(list, groups.members)


def _means(values: Float[np.ndarray, "classes draws"]) -> Float[np.ndarray, "draws"]:
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    sums = np.where(known, values, 0).sum(axis=0)
    return np.divide(sums, count, out=np.full(values.shape[1], np.nan), where=count > 0)
