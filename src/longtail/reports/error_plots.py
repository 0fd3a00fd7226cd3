"""Plots that say why a run fails: cost of each kind of error, precision, recall and F1 by group, flows of pixels."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from longtail.metrics.draws import ALL
from longtail.metrics.group_means import group_means, mean
from longtail.reports.axes import SERIES_COLOURS, group_colours, group_handles, legend_below, plain
from longtail.reports.comparison import Comparison, Entry
from longtail.reports.error_tables import numbers, pixels_of_group
from longtail.reports.plots import WIDTH, for_page
from longtail.reports.svg import INK, new_figure, style

_KIND_COLOURS = ("#3b7fc4", "#e0672a", "#98a2ad", "#c79a1c", "#b65fa8", "#d1577f")


def entries_with(comparison: Comparison, key: str) -> list[Entry]:
    """Ways to predict, of those shown side by side, that have an analysis."""
    return [entry for entry in comparison.headline if key in entry.prediction.extra]


def draw_errors(panel: Axes, comparison: Comparison, entry: Entry) -> list[Patch]:
    """AP50 that each kind of error costs one way to predict, for all classes and by group; returns a legend's entries."""
    groups = [ALL, *comparison.group_names]
    costs = entry.prediction.extra["errors"]["cost"]
    width = 0.84 / len(costs)
    for place, (values, colour) in enumerate(zip(costs.values(), _KIND_COLOURS, strict=False)):
        array = numbers(values)
        means = {ALL: mean(array), **group_means(array, comparison.groups)}
        heights = np.nan_to_num([100 * means[group] for group in groups])
        x = np.arange(len(groups)) + (place - (len(costs) - 1) / 2) * width
        panel.bar(x, heights, width * 0.92, color=colour)
    panel.set_xticks(range(len(groups)), [plain(group) for group in groups], size=9)
    panel.set_ylabel("AP50 lost, points")
    panel.set_title(plain(entry.label))
    return [Patch(color=c, label=kind) for kind, c in zip(costs, _KIND_COLOURS, strict=False)]


def draw_precision(panel: Axes, comparison: Comparison, entries: Sequence[Entry]) -> None:
    """Precision against recall at IoU 0.5 by group; of several ways to predict the first dashed."""
    for group, entry, look in _lines(comparison, entries):
        precision = 100 * numbers(entry.prediction.extra["curves"][group]["precision"])
        panel.plot(np.linspace(0, 100, len(precision)), precision, **look)
    panel.set(xlabel="recall, %", ylabel="precision, %", title="Precision and recall", xlim=(0, 100), ylim=(0, 101))


def draw_f1(panel: Axes, comparison: Comparison, entries: Sequence[Entry]) -> None:
    """F1 at IoU 0.5 against the threshold by group; of several ways to predict the first dashed."""
    highest = 0.0
    for group, entry, look in _lines(comparison, entries):
        f1 = 100 * numbers(entry.prediction.extra["curves"][group]["f1"])
        panel.plot(np.arange(len(f1)) / len(f1), f1, **look)
        highest = max(highest, float(np.nan_to_num(f1).max()))
    panel.set(xlabel="threshold", ylabel="F1, %", title="F1", xlim=(0, 1), ylim=(0, 1.08 * highest or 1))


def draw_flows(panel: Axes, comparison: Comparison, entry: Entry) -> list[Patch]:
    """Share of each group's pixels that go to each group, pale near boundaries; returns a legend's entries."""
    names, flows = comparison.group_names, entry.prediction.extra["flows"]["groups"]
    colours = dict(zip(comparison.groups.names, group_colours(comparison.groups.names), strict=True))
    width = 0.84 / len(names)
    sizes = np.array([max(pixels_of_group(entry, true), 1) for true in names])
    for place, called in enumerate(names):
        x = np.arange(len(names)) + (place - (len(names) - 1) / 2) * width
        wrong, near = (100 * np.array([flows[true][called][i] for true in names]) / sizes for i in (0, 1))
        panel.bar(x, wrong - near, width * 0.92, color=colours[called])
        panel.bar(x, near, width * 0.92, bottom=wrong - near, color=colours[called], alpha=0.4)
    panel.set_xticks(range(len(names)), [plain(f"true {name}") for name in names], size=9)
    panel.set_ylabel("wrong, % of the true group")
    panel.set_title(plain(entry.label))
    pale = Patch(color=SERIES_COLOURS[0], alpha=0.4, label="pale: near a boundary")
    return [*(Patch(color=colours[name], label=plain(f"called {name}")) for name in names), pale]


@style()
def error_bars(comparison: Comparison) -> str | None:
    """``draw_errors`` of every run side by side."""
    if not (entries := entries_with(comparison, "errors")):
        return None
    figure, axes = new_figure(WIDTH, 2.9, columns=len(entries), sharey=True)
    panels = np.atleast_1d(axes).ravel()
    handles = [draw_errors(panel, comparison, entry) for panel, entry in zip(panels, entries, strict=True)]
    for panel in panels[1:]:
        panel.set_ylabel("")
    legend_below(figure, handles[0])
    return for_page(figure, comparison, "errors", "AP50 that each kind of error costs, by group")


@style()
def curves(comparison: Comparison) -> str | None:
    """``draw_precision`` and ``draw_f1`` of the run in focus, and of the baseline."""
    entries = [e for e in comparison.of("baseline", "method") if "curves" in e.prediction.extra]
    if not entries:
        return None
    entries = [entries[0], entries[-1]] if len(entries) > 1 else entries
    figure, axes = new_figure(WIDTH, 3.4, columns=2)
    left, right = axes.ravel()
    draw_precision(left, comparison, entries)
    draw_f1(right, comparison, entries)
    handles = [*group_handles(comparison.groups, markers=True, sizes=False), Line2D([], [], color=INK, label=ALL)]
    if len(entries) > 1:
        handles.append(Line2D([], [], color=INK, ls="--", lw=1.1, label=plain(entries[0].label)))
    legend_below(figure, handles)
    return for_page(figure, comparison, "curves", "Precision, recall and F1 by group, mean over the classes")


@style()
def flow_bars(comparison: Comparison) -> str | None:
    """``draw_flows`` of every run side by side."""
    if not (entries := entries_with(comparison, "flows")):
        return None
    figure, axes = new_figure(WIDTH, 2.9, columns=len(entries), sharey=True)
    panels = np.atleast_1d(axes).ravel()
    handles = [draw_flows(panel, comparison, entry) for panel, entry in zip(panels, entries, strict=True)]
    for panel in panels[1:]:
        panel.set_ylabel("")
    legend_below(figure, handles[0])
    return for_page(figure, comparison, "flows", "Wrong pixels of each true group by the group that they are called")


def _lines(comparison: Comparison, entries: Sequence[Entry]) -> list[tuple[str, Entry, dict]]:
    """Group, way to predict and look of every curve."""
    colours = {ALL: INK, **dict(zip(comparison.groups.names, group_colours(comparison.groups.names), strict=True))}
    lines = []
    for entry in entries:
        dashed = len(entries) > 1 and entry is entries[0]
        for group in (ALL, *comparison.group_names):
            look = {"color": colours[group], "lw": 1.1 if dashed else 1.7, "ls": "--" if dashed else "-"}
            lines.append((group, entry, look))
    return lines
