"""Plots of a comparison, as inline SVG."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from longtail.reports.axes import (
    ORACLE_COLOUR,
    SERIES_COLOURS,
    class_axis,
    class_bars,
    group_colours,
    group_handles,
    legend_below,
    plain,
    short,
)
from longtail.reports.comparison import Comparison, Entry
from longtail.reports.distribution import counts_figure
from longtail.reports.svg import INK, STRONG_INK, new_figure, style, to_svg

WIDTH = 10.0
_HEAT = np.array([84, 66, 186]) / 255
_CROWDED = 300  # from here on, before and after would cover each other
_LABELLED_BARS = 40  # more numbers than this cannot be read above bars


def for_page(
    figure: Figure, comparison: Comparison, name: str, label: str, hovers: Mapping[str, Sequence[str]] | None = None
) -> str:
    """``to_svg`` with a name that plots of the other task cannot have."""
    return to_svg(figure, f"{comparison.task}-{name}", label, hovers)


@style()
def frequency_histogram(comparison: Comparison) -> str | None:
    """Occurrences of every class, most frequent first, coloured by group, on a log scale (MEDOE Fig. 1, 7)."""
    if comparison.counts is None or not comparison.counts[0].any():
        return None
    counts, unit = comparison.counts
    figure, places = counts_figure(comparison.class_names, counts, comparison.groups, unit.split(" (")[0])
    words = [f"{count:,} {unit.split(' (')[0]} ({100 * count / counts.sum():.3g} %)" for count in counts.tolist()]
    return for_page(figure, comparison, "frequency", f"Class frequency: {unit}", _hovers(comparison, places, words))


@style()
def group_bars(comparison: Comparison) -> str | None:
    """Scores over all classes and by group, before and after (MEDOE Fig. 1)."""
    entries = comparison.headline
    known = [m for m in comparison.group_metrics if all(np.isfinite(e.score(m)) for e in entries)]
    metrics = known[: 3 if len(known) <= 3 else 2]
    if not metrics:
        return None
    columns = ["all", *comparison.group_names]
    figure, axes = new_figure(WIDTH, 2.9, columns=len(metrics), sharey=True)
    width = 0.82 / len(entries)
    for panel, metric in zip(np.atleast_1d(axes).ravel(), metrics, strict=True):
        for place, entry in enumerate(entries):
            heights = np.array([100 * entry.score(metric, column) for column in columns])
            x = np.arange(len(columns)) + (place - (len(entries) - 1) / 2) * width
            bars = panel.bar(x, np.nan_to_num(heights), width * 0.92, color=_series_colour(comparison, entry))
            if len(entries) * len(columns) * len(metrics) <= _LABELLED_BARS:
                labels = [f"{height:.1f}" if np.isfinite(height) else "" for height in heights]
                panel.bar_label(bars, labels, padding=1.5, size=7)
        panel.set_xticks(range(len(columns)), [plain(column) for column in columns], size=9)
        panel.set_title(metric)
        panel.margins(x=0.03, y=0.12)
    figure.axes[0].set_ylabel("%")
    legend_below(figure, [Patch(color=_series_colour(comparison, e), label=plain(e.label)) for e in entries])
    return for_page(figure, comparison, "groups", "Scores by group")


@style()
def score_against_frequency(comparison: Comparison) -> str | None:
    """Per-class scores against frequency; a line joins each class before and after (MEDOE Fig. 1, Table 10)."""
    if comparison.counts is None or not comparison.counts[0].any():
        return None
    counts, unit = comparison.counts
    base, method, groups = comparison.baseline, comparison.method, comparison.groups
    metrics = [m for m in comparison.class_metrics[:2] if np.isfinite(comparison.values(method, m)).any()]
    if not metrics:
        return None
    hovers: dict[str, list[str]] = {}
    crowded = len(comparison.class_names) > _CROWDED
    size, opacity = (9, 0.55) if crowded else (26, 0.95)
    figure, axes = new_figure(WIDTH, 3.6, columns=len(metrics), sharey=True)
    for panel, metric in zip(np.atleast_1d(axes).ravel(), metrics, strict=True):
        before, after = _before_and_after(comparison, metric)
        for name, members, colour in zip(groups.names, groups.members, group_colours(groups.names), strict=True):
            own = np.array([c for c in members if np.isfinite(after[c]) and counts[c] > 0], dtype=np.int64)
            if base and not crowded:
                panel.vlines(counts[own], before[own], after[own], color=colour, alpha=0.5, lw=1.2)
                panel.scatter(counts[own], before[own], s=13, facecolors="none", edgecolors=INK, lw=0.8, alpha=0.8)
            gid = f"{metric}-{name}"
            panel.scatter(counts[own], after[own], s=size, color=colour, lw=0, alpha=opacity, gid=gid)
            hovers[gid] = [f"{comparison.class_names[c]}: {_change(metric, before[c], after[c])}" for c in own.tolist()]
        panel.set_xscale("log")
        panel.set_title(metric)
        panel.set_xlabel(unit.split(" (")[0])
    figure.axes[0].set_ylabel("%")
    handles = group_handles(groups, markers=True)
    if base and not crowded:
        ring = {"ls": "", "marker": "o", "ms": 4, "mfc": "none", "mec": INK}
        handles.append(Line2D([], [], **ring, label=plain(f"{base.label} (before)")))  # type: ignore[arg-type]
    legend_below(figure, handles)
    return for_page(figure, comparison, "scatter", f"{', '.join(metrics)} against {unit}", hovers)


@style()
def gain_bars(comparison: Comparison) -> str | None:
    """Difference of the method in focus to the baseline, class by class, most frequent first (MEDOE Fig. 5)."""
    metrics, order = comparison.class_metrics[:2], comparison.order
    if comparison.baseline is None or not metrics:
        return None
    hovers: dict[str, list[str]] = {}
    figure, axes = new_figure(WIDTH, 1.9 * len(metrics) + 0.9, rows=len(metrics), sharex=True)
    panels = np.atleast_1d(axes).ravel()
    for panel, metric in zip(panels, metrics, strict=True):
        before, after = _before_and_after(comparison, metric)
        gains = np.nan_to_num(after - before)[order]
        places = class_bars(panel, comparison.groups, order, gains, 0.0, metric)
        words = [_change(metric, *pair) for pair in zip(before, after, strict=True)]
        hovers |= _hovers(comparison, places, words)
        panel.axhline(0, color=INK, lw=0.8)
        panel.set_title(plain(f"{metric} gained over {comparison.baseline.label}, in points"))
    names = [comparison.class_names[c] for c in order]
    class_axis(panels[-1], names, "classes, most frequent first" if comparison.counts else "classes by group")
    legend_below(figure, group_handles(comparison.groups))
    return for_page(figure, comparison, "gains", "Gain of every class", hovers)


@style()
def confusion_heat_map(comparison: Comparison, entry: Entry, worst: int = 12, absorbers: int = 8) -> str | None:
    """Where the pixels of the worst classes go: their rows of the confusion matrix, in percent of the row.

    Args:
        comparison: The runs.
        entry: Whose confusion matrix.
        worst: Number of classes with the lowest IoU of the method in focus, each a row.
        absorbers: Number of columns after theirs: the classes that take most of these rows.
    """
    if "confusion" not in entry.prediction.extra:
        return None
    counts = np.asarray(entry.prediction.extra["confusion"], dtype=np.float64)
    iou = np.where(counts.sum(1) > 0, comparison.values(comparison.method, "IoU"), np.nan)
    rows = np.argsort(iou, kind="stable")[: min(worst, int(np.isfinite(iou).sum()))]
    if not len(rows):
        return None
    share = 100 * counts[rows] / counts[rows].sum(1, keepdims=True).clip(min=1)
    taken = share.sum(0)
    taken[rows] = -1
    takers = [c for c in np.argsort(-taken, kind="stable")[:absorbers] if taken[c] > 0.5]
    columns = np.array([*rows, *takers], dtype=np.int64)
    cells, names = share[:, columns], [short(comparison.class_names[c]) for c in columns]
    if len(columns) < len(counts):
        cells = np.column_stack([cells, 100 - cells.sum(1)])
        names.append("all others")
    figure, axes = new_figure(min(WIDTH, 2.2 + 0.5 * len(names)), 1.5 + 0.29 * len(rows))
    # the more, the less transparent: readable on a light and on a dark page
    opacity = 0.92 * (cells.clip(0, 100) / 100) ** 0.7
    axes.imshow(np.dstack([np.broadcast_to(_HEAT, (*cells.shape, 3)), opacity]), aspect="auto")
    for (y, x), value in np.ndenumerate(cells):
        if value >= 0.5:
            colour, weight = "#ffffff" if value > 60 else STRONG_INK, "bold" if x == y else None
            axes.text(x, y, f"{value:.0f}", ha="center", va="center", size=8, color=colour, weight=weight)
    if len(names) > len(rows):
        axes.axvline(len(rows) - 0.5, color=INK, lw=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [short(comparison.class_names[c]) for c in rows])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("true class")
    axes.set_title(plain(f"{entry.label}: predicted as …"))
    return for_page(figure, comparison, f"confusion-{entry.label}", f"Confusion of the worst classes, {entry.label}")


def _before_and_after(comparison: Comparison, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Percent of the baseline (NaN without one) and of the method in focus, class by class."""
    after = 100 * comparison.values(comparison.method, metric)
    base = comparison.baseline
    return np.full_like(after, np.nan) if base is None else 100 * comparison.values(base, metric), after


def _hovers(comparison: Comparison, places: Mapping[str, np.ndarray], words: Sequence[str]) -> dict[str, list[str]]:
    """gid -> name and words of the class at each place of the order; ``words`` go by class id."""
    texts = [f"{comparison.class_names[c]}: {words[c]}" for c in comparison.order]
    return {gid: [texts[place] for place in where] for gid, where in places.items()}


def _change(metric: str, before: float, after: float) -> str:
    if np.isfinite(before) and np.isfinite(after):
        return f"{metric} {before:.1f} → {after:.1f} ({after - before:+.1f})"
    return f"{metric} {after:.1f}" if np.isfinite(after) else f"{metric} undefined"


def _series_colour(comparison: Comparison, entry: Entry) -> str:
    if entry.role == "oracle":
        return ORACLE_COLOUR
    place = comparison.of("baseline", "method").index(entry) + (0 if comparison.baseline else 1)
    return SERIES_COLOURS[place % len(SERIES_COLOURS)]
