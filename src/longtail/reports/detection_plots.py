"""Plots that only detection has, as inline SVG."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from longtail.reports.axes import group_colours, group_handles, legend_below, plain
from longtail.reports.comparison import Comparison, Run
from longtail.reports.plots import WIDTH, for_page
from longtail.reports.svg import INK, new_figure, style

_RUNS_IN_A_ROW, _RELIABILITIES_IN_A_ROW = 3, 4


@style()
def stage_curves(comparison: Comparison) -> str | None:
    """AP of each group at every stage on its own, and of the method that combines them (MEC Fig. 1a).

    A row for each metric (boxes, masks), a column for each run; runs beyond three go below.
    """
    stages = {run.label: [e for e in comparison.of("expert") if e.run is run] for run in comparison.runs}
    runs = [run for run in comparison.runs if len(stages[run.label]) > 1]
    metrics = [m for m in ("AP", "mask_AP") if m in comparison.group_metrics]
    if not runs or not metrics:
        return None
    columns = min(len(runs), _RUNS_IN_A_ROW)
    parts = [(m, runs[i : i + columns]) for i in range(0, len(runs), columns) for m in metrics]
    figure, axes = new_figure(WIDTH, 2.6 * len(parts) + 0.4, columns=columns, rows=len(parts), sharey="row")
    for row, (metric, some) in zip(np.atleast_1d(axes).reshape(-1, columns), parts, strict=True):
        for panel, run in zip(row, some, strict=False):
            own = next(e for e in comparison.of("baseline", "method") if e.run is run)
            scores = {
                group: [100 * e.score(metric, group) for e in (*stages[run.label], own)]
                for group in ("all", *comparison.group_names)
            }
            _stage_panel(panel, scores, _colours(comparison))
            panel.set_title(plain(run.label), size=8.5)
        for panel in row[len(some) :]:
            panel.set_visible(False)
        row[0].set_ylabel(f"{metric}, %")
    legend_below(
        figure,
        [
            *group_handles(comparison.groups, markers=True, sizes=False),
            Line2D([], [], marker="D", ms=5, ls="", color=INK, label="all classes"),
        ],
    )
    return for_page(figure, comparison, "stages", "Scores of every stage by group")


@style()
def reliability(comparison: Comparison) -> str | None:
    """How often detections of a score are right, by group; the larger a point, the more detections have that score."""
    entries = [e for e in comparison.headline if "calibration" in e.prediction.extra]
    if not entries:
        return None
    hovers: dict[str, list[str]] = {}
    columns = min(len(entries), _RELIABILITIES_IN_A_ROW)
    rows = -(-len(entries) // columns)
    width, height = min(WIDTH, 3.6 * columns + 1), 3.0 * rows + 0.5
    figure, axes = new_figure(width, height, columns=columns, rows=rows, sharey=True)
    panels = np.atleast_1d(axes).ravel()
    for panel in panels[len(entries) :]:
        panel.set_visible(False)
    for number, (panel, entry) in enumerate(zip(panels, entries, strict=False)):
        panel.plot([0, 100], [0, 100], color=INK, lw=0.8, ls=":")
        for name in comparison.group_names:
            gid, curve = f"{number}-{name}", entry.prediction.extra["calibration"][name]
            hovers[gid] = _reliability_curve(panel, name, curve, _colours(comparison)[name], gid)
        panel.set(xlim=(-3, 103), ylim=(-3, 103), aspect="equal", xlabel="score, %", title=plain(entry.label))
    for panel in panels[::columns]:
        panel.set_ylabel("right, %")
    handles = group_handles(comparison.groups, markers=True, sizes=False)
    legend_below(figure, [*handles, Line2D([], [], ls=":", color=INK, label="calibrated")])
    return for_page(figure, comparison, "reliability", "How often detections of a score are right, by group", hovers)


@style()
def score_against_weight(comparison: Comparison) -> str | None:
    """AP against λ, the weight of the overall loss, where the runs differ in it (MEC Fig. 4)."""
    methods = {entry.run.label: entry for entry in comparison.of("baseline", "method")}
    runs = {w: methods[run.label] for run in comparison.runs if (w := _overall_weight(run)) is not None}
    metrics = [m for m in ("AP", "mask_AP") if m in comparison.group_metrics]
    if len(runs) < 3 or not metrics:
        return None
    figure, axes = new_figure(WIDTH, 3.2, columns=len(metrics), sharex=True)
    for panel, metric in zip(np.atleast_1d(axes).ravel(), metrics, strict=True):
        for name, colour in {"all": INK, **_colours(comparison)}.items():
            values = [100 * runs[weight].score(metric, name) for weight in sorted(runs)]
            panel.plot(sorted(runs), values, "o-", color=colour, lw=1.6, ms=5, label=plain(name))
        panel.set_title(metric)
        panel.set_xlabel("λ")
    figure.axes[0].set_ylabel("%")
    legend_below(figure, figure.axes[0].get_legend_handles_labels()[0])
    return for_page(figure, comparison, "weight", "Scores against the weight of the overall loss")


def _colours(comparison: Comparison) -> dict[str, str]:
    """Colours of the groups that have any class."""
    names = comparison.groups.names
    colours = dict(zip(names, group_colours(names), strict=True))
    return {name: colours[name] for name in comparison.group_names}


def _stage_panel(panel: Axes, scores: Mapping[str, list[float]], colours: Mapping[str, str]) -> None:
    """One line for each group through the stages; apart from them the last score, of the run's own prediction."""
    count = len(scores["all"]) - 1
    x, last = np.arange(count), count + 0.15
    for name, colour in colours.items():
        panel.plot(x, scores[name][:-1], "o-", color=colour, lw=1.6, ms=5)
        panel.plot([last], scores[name][-1:], "o", color=colour, ms=7)
    panel.plot(x, scores["all"][:-1], "D--", color=INK, lw=1, ms=4)
    panel.plot([last], scores["all"][-1:], "D", color=INK, ms=6)
    panel.axvline(count - 0.43, color=INK, lw=0.6, alpha=0.5)
    panel.set_xticks([*x, last], [*(f"stage {k + 1}" for k in x), "together"])
    panel.set_xlim(-0.3, last + 0.4)


def _reliability_curve(panel: Axes, name: str, curve: Mapping[str, Any], colour: str, gid: str) -> list[str]:
    """Draw the curve of one group; returns the words of its points."""
    score, right, count = (np.array(curve[key], dtype=np.float64) for key in ("score", "precision", "count"))
    score, right, count = score[count > 0], right[count > 0], count[count > 0]
    panel.plot(100 * score, 100 * right, color=colour, lw=1.2, alpha=0.7)
    panel.scatter(100 * score, 100 * right, s=10 + 26 * np.log10(count), color=colour, lw=0, gid=gid)
    points = zip(count, score, right, strict=True)
    return [f"{name}: {c:,.0f} detections of score {100 * s:.0f} %, {100 * r:.1f} % right" for c, s, r in points]


def _overall_weight(run: Run) -> float | None:
    method = run.results.settings.get("method")
    return method.get("overall_weight") if isinstance(method, dict) and method.get("name") == "mec" else None
