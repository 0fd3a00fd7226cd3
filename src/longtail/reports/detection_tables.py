"""Tables that only detection has."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from longtail.reports.comparison import Comparison
from longtail.reports.tables import Cell, Table, percent


def calibration_table(comparison: Comparison) -> Table | None:
    """How often detections of each group are right, and how far that is from their scores; None for segmentation.

    The error is the mean over the detections of the distance between score and precision of their score interval
    (expected calibration error).
    """
    entries = [e for e in comparison.headline if "calibration" in e.prediction.extra]
    if not entries:
        return None
    rows = []
    for entry in entries:
        curves = entry.prediction.extra["calibration"]
        for place, group in enumerate(comparison.groups.names):
            count, score, precision, error = _summary(curves[group])
            cells = [Cell(f"{count:,.0f}", key=count), *(Cell(percent(v)) for v in (score, precision, error))]
            rows.append([Cell("" if place else entry.label), Cell(group), *cells])
    return Table(
        title="Calibration of box scores",
        columns=[("", ""), ("", "group"), *(("", c) for c in ("detections", "mean score", "right", "error"))],
        rows=rows,
        caption="Percent. Right: detections that overlap an object of their class by at least half.",
    )


def _summary(curve: Mapping[str, Sequence[Any]]) -> tuple[float, float | None, float | None, float | None]:
    """Number of detections, mean score, share that is right, calibration error."""
    count = np.array(curve["count"], dtype=np.float64)
    total = float(count.sum())
    if not total:
        return 0.0, None, None, None
    score, precision = (np.array([v or 0.0 for v in curve[key]]) for key in ("score", "precision"))
    means = [float((count * values).sum() / total) for values in (score, precision, np.abs(score - precision))]
    return total, means[0], means[1], means[2]
