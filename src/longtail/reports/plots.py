"""Plots of a comparison, as inline SVG."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from longtail.reports.comparison import Comparison, Entry
from longtail.reports.svg import (
    INK,
    ORACLE_COLOUR,
    SERIES_COLOURS,
    STRONG_INK,
    group_colours,
    legend_below,
    new_figure,
    style,
    to_svg,
)

_WIDTH = 10.0
_HEAT = np.array([84, 66, 186]) / 255
_CROWDED = 300  # from here on, before and after would cover each other
_NAMED_CLASSES = 64  # more names than this cannot be read below a plot; hover texts have them all


def frequency_histogram(comparison: Comparison) -> str | None:
    """Occurrences of every class, most frequent first, coloured by group, on a log scale (MEDOE Fig. 1, 7)."""
    if comparison.counts is None or not comparison.counts[0].any():
        return None
    counts, unit = comparison.counts
    counts = counts[comparison.order]
    total = max(counts.sum(), 1)
    with style():
        figure, axes = new_figure(_WIDTH, 2.9)
        shown = np.maximum(counts, 0.5)
        bottom = 10 ** np.floor(np.log10(max(shown[counts > 0].min(initial=1e9), 1)) - 0.3)
        hovers = _bars_by_group(axes, comparison, np.where(counts > 0, shown, bottom), bottom=bottom, name="frequency")
        axes.set_yscale("log")
        axes.set_ylim(bottom=bottom)
        axes.set_ylabel(unit.split(" (")[0])
        _class_axis(axes, comparison)
        _group_legend(axes, comparison)
        words = [f"{count:,} {unit.split(' (')[0]} ({100 * count / total:.3g} %)" for count in counts]
        return to_svg(figure, "frequency", f"Class frequency: {unit}", _named(comparison, hovers, words))


def group_bars(comparison: Comparison) -> str | None:
    """Scores over all classes and by group, before and after (MEDOE Fig. 1)."""
    known = comparison.group_metrics
    entries, metrics = comparison.headline, known[: 3 if len(known) <= 3 else 2]
    if not metrics:
        return None
    columns = ["all", *comparison.groups.names]
    with style():
        figure, axes = new_figure(_WIDTH, 2.9, columns=len(metrics), sharey=True)
        panels: list[Axes] = list(np.atleast_1d(axes).ravel())
        width = 0.82 / len(entries)
        for panel, metric in zip(panels, metrics, strict=True):
            for place, entry in enumerate(entries):
                scores = [entry.prediction.overall, *(entry.prediction.groups.get(g, {}) for g in columns[1:])]
                heights = np.array([_percent(s.get(metric)) for s in scores])
                x = np.arange(len(columns)) + (place - (len(entries) - 1) / 2) * width
                panel.bar(x, np.nan_to_num(heights), width * 0.92, color=_series_colour(comparison, entry))
                for at, height in zip(x, heights, strict=True):
                    if np.isfinite(height) and len(entries) * len(columns) * len(metrics) <= 40:
                        panel.annotate(
                            f"{height:.1f}", (at, height), (0, 1.5), textcoords="offset points", ha="center", size=7
                        )
            panel.set_xticks(range(len(columns)), [_plain(column) for column in columns])
            panel.tick_params("x", labelsize=9)
            panel.set_title(metric)
            panel.margins(x=0.03, y=0.12)
        panels[0].set_ylabel("%")
        handles = [Patch(color=_series_colour(comparison, e), label=_plain(e.label)) for e in entries]
        legend_below(figure, handles)
        return to_svg(figure, "groups", "Scores by group")


def score_against_frequency(comparison: Comparison) -> str | None:
    """Per-class scores against frequency; a line joins each class before and after (MEDOE Fig. 1, Table 10)."""
    if comparison.counts is None or not comparison.counts[0].any():
        return None
    counts, unit = comparison.counts
    metrics = [m for m in comparison.class_metrics[:2] if np.isfinite(comparison.values(comparison.method, m)).any()]
    if not metrics:
        return None
    base, method, groups = comparison.baseline, comparison.method, comparison.groups
    hovers: dict[str, list[str]] = {}
    crowded = len(comparison.class_names) > _CROWDED
    size, opacity = (9, 0.55) if crowded else (26, 0.95)
    with style():
        figure, axes = new_figure(_WIDTH, 3.6, columns=len(metrics), sharey=True)
        for panel, metric in zip(np.atleast_1d(axes).ravel(), metrics, strict=True):
            after = 100 * comparison.values(method, metric)
            before = 100 * comparison.values(base, metric) if base else np.full_like(after, np.nan)
            for name, members, colour in zip(groups.names, groups.members, group_colours(groups.names), strict=True):
                own = np.array([c for c in members if np.isfinite(after[c]) and counts[c] > 0], dtype=np.int64)
                if base and not crowded:
                    panel.vlines(counts[own], before[own], after[own], color=colour, alpha=0.5, lw=1.2)
                    panel.scatter(counts[own], before[own], s=13, facecolors="none", edgecolors=INK, lw=0.8, alpha=0.8)
                gid = f"hover-{metric}-{name}"
                panel.scatter(counts[own], after[own], s=size, color=colour, lw=0, alpha=opacity, gid=gid)
                hovers[gid] = [
                    f"{comparison.class_names[c]}: {_change(metric, before[c], after[c])}" for c in own.tolist()
                ]
            panel.set_xscale("log")
            panel.set_title(metric)
            panel.set_xlabel(unit.split(" (")[0])
        figure.axes[0].set_ylabel("%")
        handles: list[Any] = _group_handles(comparison, marker=True)
        if base and not crowded:
            ring = Line2D([], [], ls="", marker="o", ms=4, mfc="none", mec=INK, label=_plain(f"{base.label} (before)"))
            handles.append(ring)
        legend_below(figure, handles)
        return to_svg(figure, "scatter", f"{', '.join(metrics)} against {unit}", hovers)


def gain_bars(comparison: Comparison) -> str | None:
    """Difference of the method in focus to the baseline, class by class, most frequent first (MEDOE Fig. 5)."""
    metrics = comparison.class_metrics[:2]
    if comparison.baseline is None or not metrics:
        return None
    hovers: dict[str, list[str]] = {}
    with style():
        figure, axes = new_figure(_WIDTH, 1.9 * len(metrics) + 0.9, rows=len(metrics), sharex=True)
        panels = np.atleast_1d(axes).ravel()
        for panel, metric in zip(panels, metrics, strict=True):
            before = 100 * comparison.values(comparison.baseline, metric)
            after = 100 * comparison.values(comparison.method, metric)
            gain = (after - before)[comparison.order]
            marks = _bars_by_group(panel, comparison, np.nan_to_num(gain), bottom=0, name=f"gain-{metric}")
            words = [_change(metric, before[c], after[c]) for c in comparison.order]
            hovers |= _named(comparison, marks, words)
            panel.axhline(0, color=INK, lw=0.8)
            panel.set_title(_plain(f"{metric} gained over {comparison.baseline.label}, in points"))
        _class_axis(panels[-1], comparison)
        for panel in panels[:-1]:
            panel.tick_params("x", labelbottom=False)
        figure.legend(
            handles=_group_handles(comparison),
            loc="outside lower center",
            ncols=max(1, np.count_nonzero(comparison.groups.sizes)),
        )
        return to_svg(figure, "gains", "Gain of every class", hovers)


def confusion_heat_map(comparison: Comparison, entry: Entry, worst: int = 12, absorbers: int = 8) -> str | None:
    """Where the pixels of the worst classes go: their rows of the confusion matrix, in percent of the row.

    Args:
        comparison: The runs.
        entry: Whose confusion matrix.
        worst: Number of classes with the lowest IoU of the method in focus, each a row.
        absorbers: Number of further columns: the classes that take most of these rows.
    """
    matrix = entry.prediction.extra.get("confusion")
    if matrix is None:
        return None
    counts = np.asarray(matrix, dtype=np.float64)
    iou = np.where(counts.sum(1) > 0, comparison.values(comparison.method, "IoU"), np.nan)
    rows = np.argsort(iou, kind="stable")[: min(worst, int(np.isfinite(iou).sum()))]
    if not len(rows):
        return None
    share = 100 * counts[rows] / counts[rows].sum(1, keepdims=True).clip(min=1)
    taken = share.sum(0)
    taken[rows] = -1
    further = [c for c in np.argsort(-taken, kind="stable")[:absorbers] if taken[c] > 0.5]
    columns = np.array([*rows, *further], dtype=np.int64)
    cells, names = share[:, columns], [_short(comparison.class_names[c]) for c in columns]
    if len(columns) < len(counts):
        cells = np.column_stack([cells, 100 - cells.sum(1)])
        names.append("all others")
    with style():
        figure, axes = new_figure(min(_WIDTH, 2.2 + 0.5 * len(names)), 1.5 + 0.29 * len(rows))
        # the more, the less transparent: readable on a light and on a dark page
        opacity = 0.92 * (cells.clip(0, 100) / 100) ** 0.7
        axes.imshow(np.dstack([np.broadcast_to(_HEAT, (*cells.shape, 3)), opacity]), aspect="auto")
        for (y, x), value in np.ndenumerate(cells):
            if value >= 0.5:
                own = x == y
                shade = "#ffffff" if value > 60 else STRONG_INK
                axes.text(
                    x, y, f"{value:.0f}", ha="center", va="center", size=8, color=shade, weight="bold" if own else None
                )
        if len(names) > len(rows):
            axes.axvline(len(rows) - 0.5, color=INK, lw=1)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), [_short(comparison.class_names[c]) for c in rows])
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_ylabel("true class")
        axes.set_title(_plain(f"{entry.label}: predicted as …"))
        return to_svg(figure, f"confusion-{_slug(entry)}", f"Confusion of the worst classes, {entry.label}")


def _bars_by_group(
    axes: Axes, comparison: Comparison, heights: np.ndarray, *, bottom: float, name: str
) -> dict[str, np.ndarray]:
    """One bar a class in the order of frequency; gid of each group's bars -> positions in that order."""
    group_of = comparison.groups.group_of[comparison.order]
    hovers = {}
    for group, colour in enumerate(group_colours(comparison.groups.names)):
        places = np.flatnonzero(group_of == group)
        if not len(places):
            continue
        gid = f"hover-{name}-{group}"
        edges = np.array([places - 0.4, places + 0.4])
        corners = np.stack(
            [
                np.column_stack([edges[0], np.full(len(places), bottom)]),
                np.column_stack([edges[0], heights[places]]),
                np.column_stack([edges[1], heights[places]]),
                np.column_stack([edges[1], np.full(len(places), bottom)]),
            ],
            axis=1,
        )
        axes.add_collection(_polygons(corners, colour, gid))
        hovers[gid] = places
    axes.set_xlim(-0.8, max(len(heights), 6) - 0.2)
    span = max(float(np.ptp(heights)), 1e-9)
    axes.set_ylim(min(heights.min(initial=0), bottom) - 0.05 * span * (heights.min(initial=0) < 0), None)
    axes.autoscale_view(scalex=False)
    return hovers


def _polygons(corners: np.ndarray, colour: str, gid: str) -> Any:
    collection = PolyCollection(list(corners), facecolors=colour, edgecolors="none")
    collection.set_gid(gid)
    return collection


def _named(comparison: Comparison, places: dict[str, np.ndarray], words: Sequence[str]) -> dict[str, list[str]]:
    names = [comparison.class_names[c] for c in comparison.order]
    return {gid: [f"{names[p]}: {words[p]}" for p in where] for gid, where in places.items()}


def _change(metric: str, before: float, after: float) -> str:
    if np.isfinite(before) and np.isfinite(after):
        return f"{metric} {before:.1f} → {after:.1f} ({after - before:+.1f})"
    return f"{metric} {after:.1f}" if np.isfinite(after) else f"{metric} undefined"


def _class_axis(axes: Axes, comparison: Comparison) -> None:
    """Names below the bars where there is room, else a word on the order."""
    names = [_short(comparison.class_names[c]) for c in comparison.order]
    if len(names) <= _NAMED_CLASSES:
        crowded = len(names) > 12
        axes.set_xticks(range(len(names)), names, rotation=60 if crowded else 0, ha="right" if crowded else "center")
        axes.tick_params("x", labelsize=8 if len(names) <= 40 else 7)
        if crowded:
            for label in axes.get_xticklabels():
                label.set_rotation_mode("anchor")
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
        axes.set_xlabel("classes, most frequent first" if comparison.counts else "classes by group")


def _group_handles(comparison: Comparison, marker: bool = False) -> list[Any]:
    handles: list[Any] = []
    groups = comparison.groups
    for name, size, colour in zip(groups.names, groups.sizes, group_colours(groups.names), strict=True):
        if not size:
            continue
        label = _plain(f"{name} ({size})")
        handles.append(
            Line2D([], [], ls="", marker="o", ms=5, color=colour, label=label)
            if marker
            else Patch(color=colour, label=label)
        )
    return handles


def _group_legend(axes: Axes, comparison: Comparison) -> None:
    axes.legend(
        handles=_group_handles(comparison), loc="upper right", ncols=max(1, np.count_nonzero(comparison.groups.sizes))
    )


def _series_colour(comparison: Comparison, entry: Entry) -> str:
    if entry.role == "oracle":
        return ORACLE_COLOUR
    own = comparison.of("baseline", "method")
    place = own.index(entry) + (0 if comparison.baseline else 1)
    return SERIES_COLOURS[place % len(SERIES_COLOURS)]


def _percent(value: float | None) -> float:
    return np.nan if value is None else 100 * value


def _short(name: str, limit: int = 16) -> str:
    name = name.split(",")[0].split(";")[0].strip() or name
    return _plain(name if len(name) <= limit else name[: limit - 1] + "…")


def _plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def _slug(entry: Entry) -> str:
    return "".join(c if c.isalnum() else "-" for c in entry.label.lower())
