"""Intervals of the scores of a comparison: which differences are told from chance."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from longtail.frequency import CategoryGroups
from longtail.metrics.draws import Draws, Interval, drawn_group_means, intervals_of
from longtail.metrics.image_scores import ImageScores

#: Fewer images than this tell nothing about a method, whatever their interval.
FEWEST_IMAGES = 30
#: Metric -> group -> interval.
Intervals = Mapping[str, Mapping[str, Interval]]


@dataclass(frozen=True)
class Certainty:
    """Bootstrap intervals over images, 95 %, the same draws for all.

    Args:
        alone: Label -> intervals of its own scores.
        gains: Label -> intervals of its difference to the baseline.
        images: Number of images; 0 where no scores image by image were kept.
        missing: Why there are no differences; empty where there are, or where nothing is compared.
    """

    alone: Mapping[str, Intervals] = field(default_factory=dict)
    gains: Mapping[str, Intervals] = field(default_factory=dict)
    images: int = 0
    missing: str = ""

    def gain(self, label: str, metric: str, group: str) -> Interval | None:
        """Interval of a difference to the baseline; None where there is none."""
        return self.gains.get(label, {}).get(metric, {}).get(group)

    def told(self, label: str, metric: str, group: str) -> bool:
        """Whether a difference to the baseline is told from chance, on images enough to tell."""
        interval = self.gain(label, metric, group)
        return interval is not None and interval.told_from_chance and self.images >= FEWEST_IMAGES


def certainty(
    scores: Mapping[str, ImageScores | None],
    groups: CategoryGroups,
    draws: int = 2_000,
    seed: int = 0,
) -> Certainty:
    """Draw the images with replacement and score every run on each draw.

    Args:
        scores: Label -> scores image by image, the baseline first; None for a run that kept none.
        groups: Groups of the classes.
        draws: Number of draws.
        seed: Of the random numbers.
    """
    known = {label: of for label, of in scores.items() if of is not None}
    if not known:
        return Certainty(missing="no run kept its scores image by image: evaluate again")
    base_label = next(iter(scores))
    base = known.get(base_label)
    reference = base or next(iter(known.values()))
    unlike = {label: why for label, of in known.items() if (why := reference.differ_from(of))}
    paired = {label: of for label, of in known.items() if label not in unlike}
    images = reference.number
    means = drawn_group_means([of.drawn for of in paired.values()], groups, Draws(images, draws, seed))
    drawn = dict(zip(paired, means, strict=True))
    alone = {label: {m: intervals_of(v, groups) for m, v in of.items()} for label, of in drawn.items()}
    gains = {}
    if base is not None:
        gains = {
            label: {m: intervals_of(v, groups, drawn[base_label][m]) for m, v in of.items() if m in drawn[base_label]}
            for label, of in drawn.items()
            if label != base_label
        }
    return Certainty(alone, gains, images, _missing(scores, unlike))


def _missing(scores: Mapping[str, ImageScores | None], unlike: Mapping[str, str]) -> str:
    if len(scores) < 2:
        return ""
    without = [label for label, of in scores.items() if of is None]
    words = [f"{', '.join(without)} kept no scores image by image: evaluate again"] if without else []
    return "; ".join([*words, *(f"{label} cannot be paired by image: {why}" for label, why in unlike.items())])
