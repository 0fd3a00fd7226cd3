"""How long a tail is, as a figure in a file: counts of the classes, and COCO-LT beside what it is made of."""

from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from longtail.datasets.coco_lt import LongTailSubset
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.reports.svg import (
    GROUP_COLOURS,
    INK,
    SERIES_COLOURS,
    figure_path,
    group_colours,
    new_figure,
    style,
    write_figure,
)

_NAMED_CLASSES = 90  # more names than this cannot be read below the axis


def draw_counts(
    frequency: ClassFrequency, groups: CategoryGroups, unit: Literal["pixels", "images", "instances"], out: str | Path
) -> Path:
    """Occurrences of every class, most frequent first, coloured by group, on a logarithmic scale.

    Args:
        frequency: Counts of the classes.
        groups: Their groups.
        unit: What to show.
        out: ``….svg``, ``….png`` or ``….pdf``.

    Returns:
        The file written.

    Source: MEDOE Fig. 1 and 7; MEC Fig. 1.
    """
    path = figure_path(out)
    counts = frequency.counts(unit)
    order = np.argsort(-counts, kind="stable")
    bottom = _bottom(counts)
    colours = group_colours(groups.names)
    with style():
        figure, axes = new_figure(10, 3.4)
        for group, colour in enumerate(colours):
            places = np.flatnonzero(groups.group_of[order] == group)
            heights = np.maximum(counts[order][places], bottom)
            axes.bar(places, heights - bottom, 0.84, bottom=bottom, color=colour)
        _logarithmic(axes, unit, bottom)
        _class_axis(axes, [frequency.class_names[c] for c in order])
        sizes = zip(groups.names, groups.sizes, colours, strict=True)
        handles = [Patch(color=colour, label=f"{name} ({size})") for name, size, colour in sizes if size]
        axes.legend(handles=handles, loc="upper right", ncols=max(len(handles), 1))
        return write_figure(figure, path)


def draw_alignment(subset: LongTailSubset, out: str | Path) -> Path:
    """Instances of every class in COCO, as LVIS's tail asks for, and in the images chosen (MEC Fig. 5).

    Classes stand in the order of the source's counts; those whose target was not heeded are shaded.

    Args:
        subset: What ``build_coco_lt`` chose.
        out: ``….svg``, ``….png`` or ``….pdf``.

    Returns:
        The file written.

    Source: MEC Fig. 5.
    """
    path = figure_path(out)
    order = np.argsort(-subset.source, kind="stable")
    rank = np.arange(1, len(order) + 1)
    curves = {
        "whole data set": (subset.source, SERIES_COLOURS[0], "-"),
        "target: the reference's count at this rank": (subset.target, GROUP_COLOURS[2], "--"),
        "images chosen": (subset.result, GROUP_COLOURS[0], "-"),
    }
    with style():
        figure, axes = new_figure(7, 3.9)
        for free in rank[subset.free[order]]:
            axes.axvspan(free - 0.5, free + 0.5, color=INK, alpha=0.1, lw=0, zorder=0)
        for label, (counts, colour, line) in curves.items():
            shown = np.where(counts[order] > 0, counts[order], np.nan).astype(np.float64)
            axes.plot(rank, shown, line, color=colour, lw=1.8, label=f"{label}: {int(counts.sum()):,}")
        _logarithmic(axes, "instances", _bottom(np.concatenate([subset.target, subset.result])))
        axes.set_xlim(0.5, len(order) + 0.5)
        shaded = " (shaded: filled last)" if subset.free.any() else ""
        axes.set_xlabel(f"classes by their instances in the whole data set{shaded}")
        axes.legend(loc="upper right")
        return write_figure(figure, path)


def _bottom(counts: np.ndarray) -> float:
    """Lower end of the axis: below the smallest count there is."""
    return float(0.7 * counts[counts > 0].min(initial=10**9)) if counts.any() else 0.7


def _logarithmic(axes: Axes, unit: str, bottom: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(bottom=bottom)
    axes.set_ylabel(unit)


def _class_axis(axes: Axes, names: list[str]) -> None:
    axes.set_xlim(-0.8, len(names) - 0.2)
    if len(names) > _NAMED_CLASSES:
        axes.set_xlabel("classes, most frequent first")
        return
    shown = [name if len(name) <= 18 else f"{name[:17]}…" for name in names]
    axes.set_xticks(
        range(len(names)), [name.replace("$", r"\$") for name in shown], rotation=60, ha="right", rotation_mode="anchor"
    )
    axes.tick_params("x", labelsize=8 if len(names) <= 45 else 6)
