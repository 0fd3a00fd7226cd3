"""Plots that only detection has, as inline SVG."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from longtail.reports.comparison import Comparison, Entry, Run
from longtail.reports.svg import INK, group_colours, legend_below, new_figure, style, to_svg

_WIDTH = 10.0
_RUNS_IN_A_ROW, _RELIABILITIES_IN_A_ROW = 3, 4


def stage_curves(comparison: Comparison) -> str | None:
    """AP of each group at every stage on its own, and of the method that reads them together (MEC Fig. 1a).

    A row a metric (boxes, masks), a column a run; runs beyond three go below.
    """
    runs = [run for run in comparison.runs if len(_stages(comparison, run)) > 1]
    metrics = [m for m in ("AP", "mask_AP") if m in comparison.group_metrics]
    if not runs or not metrics:
        return None
    with style():
        columns = min(len(runs), _RUNS_IN_A_ROW)
        parts = [(m, runs[i : i + columns]) for i in range(0, len(runs), columns) for m in metrics]
        figure, axes = new_figure(_WIDTH, 2.6 * len(parts) + 0.4, columns=columns, rows=len(parts), sharey="row")
        for row, (metric, some) in zip(np.atleast_1d(axes).reshape(-1, columns), parts, strict=True):
            for panel, run in zip(row, some, strict=False):
                _stage_panel(panel, comparison, run, metric)
                panel.set_title(run.label.replace("$", r"\$"), size=8.5)
            for panel in row[len(some) :]:
                panel.set_visible(False)
            row[0].set_ylim(bottom=0)  # after all that share the axis are drawn
            row[0].set_ylabel(f"{metric}, %")
        handles = [
            Line2D([], [], marker="o", ms=5, color=colour, label=name)
            for name, colour in zip(comparison.groups.names, group_colours(comparison.groups.names), strict=True)
        ]
        handles.append(Line2D([], [], marker="D", ms=5, ls="", color=INK, label="all classes"))
        legend_below(figure, handles)
        return to_svg(figure, "stages", "Scores of every stage by group")


def reliability(comparison: Comparison) -> str | None:
    """How often detections of a score are right, by group; the larger a point, the more detections have that score."""
    entries = [e for e in comparison.headline if "calibration" in e.prediction.extra]
    if not entries:
        return None
    hovers: dict[str, list[str]] = {}
    with style():
        columns = min(len(entries), _RELIABILITIES_IN_A_ROW)
        rows = -(-len(entries) // columns)
        width, height = min(_WIDTH, 3.6 * columns + 1), 3.0 * rows + 0.5
        figure, axes = new_figure(width, height, columns=columns, rows=rows, sharey=True)
        panels = np.atleast_1d(axes).ravel()
        for panel in panels[len(entries) :]:
            panel.set_visible(False)
        for number, (panel, entry) in enumerate(zip(panels, entries, strict=False)):
            panel.plot([0, 100], [0, 100], color=INK, lw=0.8, ls=":")
            hovers |= _reliability_panel(panel, comparison, entry, f"hover-reliability-{number}")
            panel.set(xlim=(-3, 103), ylim=(-3, 103), aspect="equal", xlabel="score, %")
            panel.set_title(entry.label.replace("$", r"\$"))
        for panel in panels[::columns]:
            panel.set_ylabel("right, %")
        colours = zip(comparison.groups.names, group_colours(comparison.groups.names), strict=True)
        handles = [Line2D([], [], marker="o", ms=5, color=colour, label=name) for name, colour in colours]
        handles.append(Line2D([], [], ls=":", color=INK, label="calibrated"))
        legend_below(figure, handles)
        return to_svg(figure, "reliability", "How often detections of a score are right, by group", hovers)


def score_against_weight(comparison: Comparison) -> str | None:
    """AP against λ, the weight of the overall loss, where the runs differ in it (MEC Fig. 4)."""
    runs = {weight: run for run in comparison.runs if (weight := _overall_weight(run)) is not None}
    metrics = [m for m in ("AP", "mask_AP") if m in comparison.group_metrics]
    if len(runs) < 3 or not metrics:
        return None
    weights = np.array(sorted(runs))
    names = ["all", *comparison.groups.names]
    colours = [INK, *group_colours(comparison.groups.names)]
    with style():
        figure, axes = new_figure(_WIDTH, 3.2, columns=len(metrics), sharex=True)
        for panel, metric in zip(np.atleast_1d(axes).ravel(), metrics, strict=True):
            for name, colour in zip(names, colours, strict=True):
                own = [runs[weight].results.own for weight in weights]
                values = [_percent(p.overall if name == "all" else p.groups[name], metric) for p in own]
                panel.plot(weights, values, "o-", color=colour, lw=1.6, ms=5, label=name)
            panel.set_title(metric)
            panel.set_xlabel("λ")
        figure.axes[0].set_ylabel("%")
        legend_below(figure, figure.axes[0].get_legend_handles_labels()[0])
        return to_svg(figure, "weight", "Scores against the weight of the overall loss")


def _stages(comparison: Comparison, run: Run) -> list[Entry]:
    return [e for e in comparison.of("expert") if e.run is run and e.name.startswith("stage_")]


def _stage_panel(panel: Axes, comparison: Comparison, run: Run, metric: str) -> None:
    """One line a group through the stages; apart from them what the run itself predicts."""
    stages, own = _stages(comparison, run), run.results.own
    x, last = np.arange(len(stages)), len(stages) + 0.15
    for name, colour in zip(comparison.groups.names, group_colours(comparison.groups.names), strict=True):
        values = [_percent(e.prediction.groups.get(name, {}), metric) for e in stages]
        panel.plot(x, values, "o-", color=colour, lw=1.6, ms=5)
        panel.plot([last], [_percent(own.groups.get(name, {}), metric)], "o", color=colour, ms=7)
    panel.plot(x, [_percent(e.prediction.overall, metric) for e in stages], "D--", color=INK, lw=1, ms=4)
    panel.plot([last], [_percent(own.overall, metric)], "D", color=INK, ms=6)
    panel.axvline(len(stages) - 0.43, color=INK, lw=0.6, alpha=0.5)
    panel.set_xticks([*x, last], [*(f"stage {k + 1}" for k in x), "together"])
    panel.set_xlim(-0.3, last + 0.4)


def _reliability_panel(panel: Axes, comparison: Comparison, entry: Entry, gid: str) -> dict[str, list[str]]:
    hovers = {}
    curves = entry.prediction.extra["calibration"]
    for name, colour in zip(comparison.groups.names, group_colours(comparison.groups.names), strict=True):
        curve = curves[name]
        score, right, count = (_numbers(curve[key]) for key in ("score", "precision", "count"))
        filled = count > 0
        if not filled.any():
            continue
        panel.plot(100 * score[filled], 100 * right[filled], color=colour, lw=1.2, alpha=0.7)
        sizes = 10 + 26 * np.log10(count[filled].clip(min=1))
        own = f"{gid}-{name}"
        panel.scatter(100 * score[filled], 100 * right[filled], s=sizes, color=colour, lw=0, gid=own)
        points = zip(count[filled], score[filled], right[filled], strict=True)
        hovers[own] = [
            f"{name}: {c:,.0f} detections of score {100 * s:.0f} %, {100 * r:.1f} % right" for c, s, r in points
        ]
    return hovers


def _overall_weight(run: Run) -> float | None:
    method = run.results.settings.get("method")
    return method.get("overall_weight") if isinstance(method, dict) and method.get("name") == "mec" else None


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _percent(scores: dict[str, float | None], metric: str) -> float:
    value = scores.get(metric)
    return np.nan if value is None else 100 * value
