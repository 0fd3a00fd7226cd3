"""Plots that say why a run fails: cost of each kind of error, precision, recall and F1 by group, flows of pixels."""

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from longtail.metrics.draws import ALL
from longtail.metrics.group_means import group_means, mean
from longtail.reports.axes import SERIES_COLOURS, group_colours, group_handles, legend_below, plain
from longtail.reports.comparison import Comparison
from longtail.reports.error_tables import numbers, pixels_of_group
from longtail.reports.plots import WIDTH, for_page
from longtail.reports.svg import INK, new_figure, style

_KIND_COLOURS = ("#3b7fc4", "#e0672a", "#98a2ad", "#c79a1c", "#b65fa8", "#d1577f")


@style()
def error_bars(comparison: Comparison) -> str | None:
    """AP50 that each kind of error costs, for all classes and by group."""
    entries = [e for e in comparison.headline if "errors" in e.prediction.extra]
    if not entries:
        return None
    groups = [ALL, *comparison.group_names]
    figure, axes = new_figure(WIDTH, 2.9, columns=len(entries), sharey=True)
    for panel, entry in zip(np.atleast_1d(axes).ravel(), entries, strict=True):
        costs = entry.prediction.extra["errors"]["cost"]
        width = 0.84 / len(costs)
        for place, (values, colour) in enumerate(zip(costs.values(), _KIND_COLOURS, strict=False)):
            array = numbers(values)
            means = {ALL: mean(array), **group_means(array, comparison.groups)}
            heights = np.nan_to_num([100 * means[group] for group in groups])
            x = np.arange(len(groups)) + (place - (len(costs) - 1) / 2) * width
            panel.bar(x, heights, width * 0.92, color=colour)
        panel.set_xticks(range(len(groups)), [plain(group) for group in groups], size=9)
        panel.set_title(plain(entry.label))
    figure.axes[0].set_ylabel("AP50 lost, points")
    kinds = entries[0].prediction.extra["errors"]["cost"]
    legend_below(figure, [Patch(color=c, label=kind) for kind, c in zip(kinds, _KIND_COLOURS, strict=False)])
    return for_page(figure, comparison, "errors", "AP50 that each kind of error costs, by group")


@style()
def curves(comparison: Comparison) -> str | None:
    """Precision against recall, and F1 against the threshold, by group; the baseline dashed."""
    entries = [e for e in comparison.of("baseline", "method") if "curves" in e.prediction.extra]
    entries = [entries[0], entries[-1]] if len(entries) > 1 else entries
    if not entries:
        return None
    colours = {ALL: INK, **dict(zip(comparison.groups.names, group_colours(comparison.groups.names), strict=True))}
    figure, axes = new_figure(WIDTH, 3.4, columns=2)
    left, right = axes.ravel()
    highest = 0.0
    for entry in entries:
        dashed = len(entries) > 1 and entry is entries[0]
        for group in (ALL, *comparison.group_names):
            of = entry.prediction.extra["curves"][group]
            look = {"color": colours[group], "lw": 1.1 if dashed else 1.7, "ls": "--" if dashed else "-"}
            precision, f1 = (100 * numbers(of[name]) for name in ("precision", "f1"))
            left.plot(np.linspace(0, 100, len(precision)), precision, **look)
            right.plot(np.arange(len(f1)) / 100, f1, **look)
            highest = max(highest, float(np.nanmax(f1, initial=0.0)))
    left.set(xlabel="recall, %", ylabel="precision, %", title="Precision and recall", xlim=(0, 100), ylim=(0, 101))
    right.set(xlabel="threshold", ylabel="F1, %", title="F1", xlim=(0, 1), ylim=(0, 1.08 * highest or 1))
    handles = [*group_handles(comparison.groups, markers=True, sizes=False), Line2D([], [], color=INK, label=ALL)]
    if len(entries) > 1:
        handles.append(Line2D([], [], color=INK, ls="--", lw=1.1, label=plain(entries[0].label)))
    legend_below(figure, handles)
    return for_page(figure, comparison, "curves", "Precision, recall and F1 by group, mean over the classes")


@style()
def flow_bars(comparison: Comparison) -> str | None:
    """Share of each group's pixels that go to each group, near boundaries (pale) and inside."""
    entries = [e for e in comparison.headline if "flows" in e.prediction.extra]
    if not entries:
        return None
    names = comparison.group_names
    colours = dict(zip(comparison.groups.names, group_colours(comparison.groups.names), strict=True))
    figure, axes = new_figure(WIDTH, 2.9, columns=len(entries), sharey=True)
    for panel, entry in zip(np.atleast_1d(axes).ravel(), entries, strict=True):
        flows = entry.prediction.extra["flows"]["groups"]
        width = 0.84 / len(names)
        for place, called in enumerate(names):
            x = np.arange(len(names)) + (place - (len(names) - 1) / 2) * width
            sizes = np.array([max(pixels_of_group(entry, true), 1) for true in names])
            wrong, near = (100 * np.array([flows[true][called][i] for true in names]) / sizes for i in (0, 1))
            panel.bar(x, wrong - near, width * 0.92, color=colours[called])
            panel.bar(x, near, width * 0.92, bottom=wrong - near, color=colours[called], alpha=0.4)
        panel.set_xticks(range(len(names)), [plain(f"true {name}") for name in names], size=9)
        panel.set_title(plain(entry.label))
    figure.axes[0].set_ylabel("wrong, % of the true group")
    handles = [Patch(color=colours[name], label=plain(f"called {name}")) for name in names]
    legend_below(figure, [*handles, Patch(color=SERIES_COLOURS[0], alpha=0.4, label="pale: near a boundary")])
    return for_page(figure, comparison, "flows", "Wrong pixels of each true group by the group that they are called")
