"""Scores against a hyper-parameter, as a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from longtail.reports.axes import SERIES_COLOURS, plain, whole_numbers
from longtail.reports.svg import figure_path, new_figure, style, to_svg, write_figure

#: Name of a score -> value of the hyper-parameter -> scores in percent, one for each seed; empty where there is no run.
Series = Mapping[str, Mapping[float, Sequence[float]]]
_PANELS_IN_A_ROW = 4


def write_curve(series: Series, axis: str, out: str | Path) -> Path:
    """One panel for each score: mean over seeds as a line, every seed as a point, the spread as a band.

    Args:
        series: See ``Series``.
        axis: Name of the hyper-parameter.
        out: ``….svg``, ``….png`` or ``….pdf``.

    Returns:
        The file written.

    Source: MEDOE Fig. 6; MEC Fig. 4.
    """
    path = figure_path(out)
    return write_figure(_curve(series, axis), path)


def curve_svg(series: Series, axis: str) -> str:
    """The figure of ``write_curve`` for a page."""
    return to_svg(_curve(series, axis), "curve", f"{', '.join(series)} against {axis}")


@style()
def _curve(series: Series, axis: str) -> Figure:
    shown = {name: points for name, points in series.items() if any(points.values())}
    columns = max(min(len(shown), _PANELS_IN_A_ROW), 1)
    rows = max(-(-len(shown) // columns), 1)
    figure, panels = new_figure(3.0 * columns, 2.6 * rows, columns=columns, rows=rows, sharex=True)
    panels = np.atleast_1d(panels).ravel()
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    for place, (name, points) in enumerate(shown.items()):
        panel, colour = panels[place], SERIES_COLOURS[place % len(SERIES_COLOURS)]
        known = {at: np.asarray(scores, dtype=float) for at, scores in sorted(points.items()) if len(scores)}
        means = np.array([scores.mean() for scores in known.values()])
        spread = np.array([scores.std(ddof=1) if len(scores) > 1 else 0.0 for scores in known.values()])
        panel.fill_between(list(known), means - spread, means + spread, color=colour, alpha=0.18, linewidth=0)
        panel.plot(list(known), means, color=colour, marker="o", markersize=4)
        for at, scores in known.items():
            panel.plot(np.full(len(scores), at), scores, ".", color=colour, alpha=0.5, markersize=4)
        whole_numbers(panel, list(known))
        panel.set_title(plain(name))
        panel.set_xlabel(axis)
    panels[0].set_ylabel("%")
    return figure
