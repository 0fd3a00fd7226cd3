"""What the matches of a detection evaluation say beyond the AP of single classes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

_RECALLS = np.linspace(0.0, 1.0, 101)


def pooled_ap(matches: Iterable[Mapping[str, Any] | None]) -> float:
    """AP-pool: matches are found within each class, then one precision-recall curve is drawn over all classes.

    Scores must be comparable between classes to do well here, which the mean of single-class APs never asks.

    Args:
        matches: One record an image and class, as COCO evaluators keep them (``dtScores``, ``dtMatched``, ``dtIgnore``
            by threshold, ``gtIgnore``), of one size range.

    Returns:
        Mean over the IoU thresholds of the 101-point interpolated AP; NaN where there is nothing to find.

    Source: Dave et al., "Evaluating Large-Vocabulary Object Detectors: The Devil is in the Details", §5.
    """
    records = [record for record in matches if record is not None]
    positives = sum(len(r["gtIgnore"]) - int(np.sum(r["gtIgnore"])) for r in records)
    found = [r for r in records if len(r["dtScores"])]
    if not positives:
        return math.nan
    if not found:
        return 0.0
    order = np.argsort(-np.concatenate([np.asarray(r["dtScores"], dtype=np.float64) for r in found]), kind="stable")
    matched = np.concatenate([np.asarray(r["dtMatched"], dtype=bool) for r in found], axis=1)[:, order]
    ignored = np.concatenate([np.asarray(r["dtIgnore"], dtype=bool) for r in found], axis=1)[:, order]
    return float(
        np.mean([average_precision(hit[~skip], positives) for hit, skip in zip(matched, ignored, strict=True)])
    )


def average_precision(hits: np.ndarray, positives: int) -> float:
    """101-point interpolated AP of detections in order of score.

    Args:
        hits: bool (n,), whether each detection is right, best score first.
        positives: Number of objects to find, at least 1.
    """
    true = np.cumsum(hits)
    precision = true / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(true / positives, _RECALLS, side="left")
    return float(np.append(envelope, 0.0)[np.minimum(place, len(hits))].mean())


def calibration(
    matches: Iterable[Mapping[str, Any] | None], group_of: Mapping[int, int], names: Sequence[str], bins: int = 10
) -> dict[str, dict[str, list[float | None]]]:
    """How often detections of a score are right at the first IoU threshold, for each group of classes.

    Args:
        matches: As of ``pooled_ap``.
        group_of: Category id -> index of its group.
        names: Name of each group.
        bins: Number of equal score intervals in [0, 1].

    Returns:
        Group -> ``score`` (mean in each bin), ``precision`` and ``count``; None in empty bins.
    """
    totals = np.zeros((3, len(names), bins))
    for record in matches:
        if record is None or not len(record["dtScores"]):
            continue
        keep = ~np.asarray(record["dtIgnore"][0], dtype=bool)
        scores = np.asarray(record["dtScores"], dtype=np.float64)[keep]
        place = np.clip((scores * bins).astype(np.int64), 0, bins - 1)
        hits = np.asarray(record["dtMatched"][0], dtype=np.float64)[keep]
        for row, weights in zip(totals, (np.ones_like(scores), scores, hits), strict=True):
            row[group_of[record["category_id"]]] += np.bincount(place, weights, bins)
    count, score, right = totals
    return {
        name: {
            "score": _ratios(score[g], count[g]),
            "precision": _ratios(right[g], count[g]),
            "count": count[g].tolist(),
        }
        for g, name in enumerate(names)
    }


def _ratios(sums: np.ndarray, counts: np.ndarray) -> list[float | None]:
    return [s / n if n else None for s, n in zip(sums.tolist(), counts.tolist(), strict=True)]
