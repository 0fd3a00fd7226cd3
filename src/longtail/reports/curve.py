"""Scores against a hyper-parameter, as a figure in a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from longtail.reports.svg import SERIES_COLOURS, figure_path, new_figure, style, write_figure


def write_curve(series: Mapping[str, Mapping[float, Sequence[float]]], axis: str, out: str | Path) -> Path:
    """One panel a score: mean over seeds as a line, every seed as a point, the spread as a band.

    Args:
        series: Name of a score -> value of the hyper-parameter -> scores in percent, one a seed; empty where there is
            no run.
        axis: Name of the hyper-parameter.
        out: ``….svg``, ``….png`` or ``….pdf``.

    Returns:
        The file written.

    Source: MEDOE Fig. 6; MEC Fig. 4.
    """
    path = figure_path(out)
    shown = {name: points for name, points in series.items() if any(points.values())}
    with style():
        figure, panels = new_figure(max(3.0 * len(shown), 3.0), 2.8, columns=max(len(shown), 1), sharex=True)
        for place, (name, points) in enumerate(shown.items()):
            panel = np.atleast_1d(panels).ravel()[place]
            colour = SERIES_COLOURS[place % len(SERIES_COLOURS)]
            known = {at: np.asarray(scores, dtype=float) for at, scores in sorted(points.items()) if len(scores)}
            places = np.array(list(known))
            means = np.array([scores.mean() for scores in known.values()])
            spread = np.array([scores.std(ddof=1) if len(scores) > 1 else 0.0 for scores in known.values()])
            panel.fill_between(places, means - spread, means + spread, color=colour, alpha=0.18, linewidth=0)
            panel.plot(places, means, color=colour, marker="o", markersize=4)
            for at, scores in known.items():
                panel.plot(np.full(len(scores), at), scores, ".", color=colour, alpha=0.5, markersize=4)
            panel.set_title(name)
            panel.set_xlabel(axis)
        np.atleast_1d(panels).ravel()[0].set_ylabel("%")
        return write_figure(figure, path)
