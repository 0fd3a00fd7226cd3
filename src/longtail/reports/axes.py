"""What plots share: colours, bars of classes, the axis of classes, legends."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from longtail.frequency import CategoryGroups

#: Colour-blind safe, and readable on white and on black; from frequent to rare.
GROUP_COLOURS = ("#3b7fc4", "#1a9e83", "#e0672a", "#b65fa8", "#c79a1c", "#7d8590")
_GROUP_PLACES = {"head": 0, "frequent": 0, "body": 1, "common": 1, "tail": 2, "rare": 2, "few": 2}
#: Baseline, methods …; the oracle has another.
SERIES_COLOURS = ("#98a2ad", "#6f5bd6", "#2f9fd0", "#d1577f", "#5aa02c")
ORACLE_COLOUR = "#cfa01a"
_NAMED_CLASSES = 64  # more names than this cannot be read below an axis; hover texts have them all


def group_colours(names: Sequence[str]) -> list[str]:
    """Colour of each group: the same for head and frequent, body and common, tail and rare, whatever their order."""
    free = [i for i in range(len(GROUP_COLOURS)) if i not in {_GROUP_PLACES.get(n) for n in names}]
    places = [_GROUP_PLACES[name] if name in _GROUP_PLACES else free.pop(0) if free else -1 for name in names]
    return [GROUP_COLOURS[place] for place in places]


def class_bars(
    axes: Axes, groups: CategoryGroups, order: np.ndarray, heights: np.ndarray, bottom: float, name: str
) -> dict[str, np.ndarray]:
    """Draw one bar for each class in the colour of its group.

    Args:
        axes: Where to draw.
        groups: Groups of the classes.
        order: Class ids from left to right.
        heights: Upper end of each bar, in that order.
        bottom: Their lower end.
        name: Tells these bars from others of the figure.

    Returns:
        gid of the bars of each group -> their positions.
    """
    places_of = {}
    for group, colour in enumerate(group_colours(groups.names)):
        places = np.flatnonzero(groups.group_of[order] == group)
        if len(places):
            left, right, top, foot = places - 0.4, places + 0.4, heights[places], np.full(len(places), bottom)
            corners = np.array([[left, foot], [left, top], [right, top], [right, foot]]).transpose(2, 0, 1)
            gid = f"{name}-{group}"
            axes.add_collection(PolyCollection(list(corners), facecolors=colour, edgecolors="none", gid=gid))
            places_of[gid] = places
    axes.autoscale_view()
    axes.set_xlim(-0.8, max(len(heights), 6) - 0.2)
    return places_of


def class_axis(axes: Axes, names: Sequence[str], words: str) -> None:
    """Names below the bars where there is room, else ``words`` on their order."""
    if len(names) > _NAMED_CLASSES:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(words)
        return
    crowded = len(names) > 12
    turned: Any = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(len(names)), [short(name) for name in names], **turned)
    axes.tick_params("x", labelsize=8 if len(names) <= 40 else 7)


def group_handles(groups: CategoryGroups, *, markers: bool = False, sizes: bool = True) -> list[Artist]:
    """Entries of a legend: a patch or a point for each group that has classes."""
    handles: list[Artist] = []
    for name, size, colour in zip(groups.names, groups.sizes, group_colours(groups.names), strict=True):
        label = plain(f"{name} ({size})" if sizes else name)
        if size and markers:
            handles.append(Line2D([], [], ls="", marker="o", ms=5, color=colour, label=label))
        elif size:
            handles.append(Patch(color=colour, label=label))
    return handles


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """One legend of the whole figure under its axes, in as many rows as its labels need."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(figure.get_figwidth() / (0.07 * longest + 0.45))))
    figure.set_figheight(figure.get_figheight() + 0.2 * (-(-len(handles) // columns) - 1))
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns)


def whole_numbers(axes: Axes, values: Iterable[float]) -> None:
    """Mark only whole numbers on the x axis where all values are whole."""
    if all(float(value).is_integer() for value in values):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def lowest(counts: np.ndarray) -> float:
    """Where a logarithmic axis of counts begins: below the smallest count above 0."""
    return 0.7 * float(counts[counts > 0].min()) if (counts > 0).any() else 0.7


def short(name: str, limit: int = 18) -> str:
    """The first of several names of a class, cut to fit an axis."""
    name = name.split(",")[0].split(";")[0].strip() or name
    return plain(name if len(name) <= limit else name[: limit - 1] + "…")


def plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
