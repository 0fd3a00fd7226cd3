"""The per-class table as CSV."""

import csv
import io

import numpy as np

from longtail.reports.comparison import Comparison


def class_csv(comparison: Comparison) -> str:
    """Every class, its group and counts, and every metric of every way to predict, as CSV text.

    Scores are fractions; what is undefined is empty.
    """
    frequency, groups = comparison.frequency, comparison.groups
    units = [
        u for u in ("pixels", "images", "instances") if frequency is not None and getattr(frequency, u) is not None
    ]
    columns = [(entry, metric) for entry in comparison.entries for metric in entry.prediction.per_class]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "class", "group", *units, *(f"{entry.label} {metric}" for entry, metric in columns)])
    scores = [comparison.values(entry, metric) for entry, metric in columns]
    for index, name in enumerate(comparison.class_names):
        counts = [] if frequency is None else [int(frequency.counts(unit)[index]) for unit in units]  # type: ignore[arg-type]
        values = ["" if np.isnan(score[index]) else repr(float(score[index])) for score in scores]
        writer.writerow([index, name, groups.names[groups.group_of[index]], *counts, *values])
    return text.getvalue()
