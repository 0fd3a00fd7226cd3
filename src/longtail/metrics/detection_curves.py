"""Precision and recall of groups of classes: curves over the recall, and F1 over the threshold."""

from typing import TypedDict

import numpy as np
from jaxtyping import Float

from longtail.frequency.groups import CategoryGroups
from longtail.metrics.draws import ALL
from longtail.metrics.group_means import group_means
from longtail.metrics.matches import Matches, each_class

#: Recalls at which precision is read, and thresholds at which F1 is.
RECALLS = np.linspace(0.0, 1.0, 101)
LEVELS = np.linspace(0.0, 0.99, 100)


class Curves(TypedDict):
    """Curves of one group at IoU 0.5, each the mean over its classes with objects; None where there is no such class."""

    precision: list[float | None]  # at RECALLS, the best at this recall or a higher one
    f1: list[float | None]  # at LEVELS, of the detections of this score or a higher one


def group_curves(matches: Matches, groups: CategoryGroups) -> dict[str, Curves]:
    """Curves of all classes together, then of every group.

    Args:
        matches: Detections matched to the objects of their class.
        groups: Partition of the classes.
    """
    precision, f1 = class_curves(matches)
    found: dict[str, Curves] = {}
    everyone = CategoryGroups.explicit({ALL: range(groups.num_classes)})
    for partition in (everyone, groups):
        values = {
            name: [group_means(column, partition) for column in curve.T]
            for name, curve in (("precision", precision), ("f1", f1))
        }
        for group in partition.names:
            curves = {name: [_or_none(m[group]) for m in means] for name, means in values.items()}
            found[group] = Curves(precision=curves["precision"], f1=curves["f1"])
    return found


def class_curves(matches: Matches) -> tuple[Float[np.ndarray, "classes recalls"], Float[np.ndarray, "classes levels"]]:
    """Precision at ``RECALLS`` and F1 at ``LEVELS`` of every class, at IoU 0.5; NaN for a class without objects."""
    classes = len(matches.positives)
    precisions, scores_f1 = np.full((classes, len(RECALLS)), np.nan), np.full((classes, len(LEVELS)), np.nan)
    counted = (matches.ignored & 1) == 0
    for label, here in each_class(matches.labels, matches.scores, matches.positives, counted):
        positives = int(matches.positives[label])
        true = np.append(0, (matches.right[here] & 1).astype(np.int64).cumsum())
        number = np.arange(len(true))
        precision = true[1:] / number[1:]
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        precisions[label] = envelope[np.searchsorted(true[1:] / positives, RECALLS, side="left")]
        above = np.searchsorted(-matches.scores[here], -LEVELS, side="right")  # of this score or a higher one
        scores_f1[label] = 2 * true[above] / (number[above] + positives)
    return precisions, scores_f1


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
