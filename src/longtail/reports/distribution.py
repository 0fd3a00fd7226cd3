"""Figures of long tails: counts of the classes, and COCO-LT next to COCO and LVIS."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from longtail.datasets.coco_lt import LongTailSubset
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.reports.axes import (
    GROUP_COLOURS,
    SERIES_COLOURS,
    class_axis,
    class_bars,
    group_handles,
    lowest,
    whole_numbers,
)
from longtail.reports.svg import INK, figure_path, new_figure, style, write_figure


@style()
def draw_counts(
    frequency: ClassFrequency, groups: CategoryGroups, unit: Literal["pixels", "images", "instances"], out: str | Path
) -> Path:
    """Occurrences of every class, most frequent first, coloured by group, on a logarithmic scale.

    Args:
        frequency: Counts of the classes.
        groups: Their groups.
        unit: Unit of the counts.
        out: ``….svg``, ``….png`` or ``….pdf``.

    Returns:
        The file written.

    Source: MEDOE Fig. 1 and 7; MEC Fig. 1.
    """
    path = figure_path(out)
    return write_figure(counts_figure(frequency.class_names, frequency.counts(unit), groups, unit)[0], path)


def counts_figure(
    names: Sequence[str], counts: np.ndarray, groups: CategoryGroups, unit: str
) -> tuple[Figure, dict[str, np.ndarray]]:
    """The figure of ``draw_counts``, and gid of the bars of each group -> their positions."""
    order = np.argsort(-counts, kind="stable")
    bottom = lowest(counts)
    figure, axes = new_figure(10, 3.0)
    axes.set_yscale("log")
    places = class_bars(axes, groups, order, np.maximum(counts[order], bottom), bottom, "counts")
    axes.set_ylim(bottom=bottom)
    axes.set_ylabel(unit)
    class_axis(axes, [names[c] for c in order], "classes, most frequent first")
    handles = group_handles(groups)
    axes.legend(handles=handles, loc="upper right", ncols=max(len(handles), 1))
    return figure, places


@style()
def draw_alignment(subset: LongTailSubset, out: str | Path) -> Path:
    """Instances of every class in COCO, as LVIS's tail asks for, and in the images chosen (MEC Fig. 5).

    Classes stand in the order of the source's counts; those without a target are shaded.

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
    figure, axes = new_figure(7, 3.9)
    for free in rank[subset.free[order]]:
        axes.axvspan(free - 0.5, free + 0.5, color=INK, alpha=0.1, lw=0, zorder=0)
    for label, (counts, colour, line) in curves.items():
        shown = np.where(counts[order] > 0, counts[order], np.nan).astype(np.float64)
        axes.plot(rank, shown, line, color=colour, lw=1.8, label=f"{label}: {int(counts.sum()):,}")
    axes.set_yscale("log")
    axes.set_ylim(bottom=lowest(np.concatenate([subset.target, subset.result])))
    axes.set_ylabel("instances")
    axes.set_xlim(0.5, len(order) + 0.5)
    whole_numbers(axes, rank.tolist())
    shaded = " (shaded: filled last)" if subset.free.any() else ""
    axes.set_xlabel(f"classes by their instances in the whole data set{shaded}")
    axes.legend(loc="upper right")
    return write_figure(figure, path)
