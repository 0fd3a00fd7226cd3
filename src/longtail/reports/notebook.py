"""For notebooks: results as data frames and as matplotlib axes.

from longtail.reports import notebook
runs = notebook.load("runs/baseline", "runs/mec")
notebook.frames(runs)["errors_by_class"]
notebook.errors(runs)
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes

from longtail.errors import DataError
from longtail.metrics.results import Results
from longtail.reports import error_plots
from longtail.reports.comparison import Comparison, Run, display_name, results_file
from longtail.reports.export import all_tables, class_frame, to_frame
from longtail.reports.svg import new_figure, style

if TYPE_CHECKING:
    import pandas


def load(*runs: str | Path | Results) -> Comparison:
    """Runs to look at, the baseline first: run folders, ``results.json`` files, or results at hand.

    Raises:
        DataError: A file is missing or unreadable, or the runs cannot be compared.
    """
    if not any(isinstance(run, Results) for run in runs):
        return Comparison.load([run for run in runs if not isinstance(run, Results)])
    found: list[Run] = []
    for place, run in enumerate(runs, start=1):
        at_hand = isinstance(run, Results)
        source = Path("results.json") if isinstance(run, Results) else results_file(run)
        results = run if isinstance(run, Results) else Results.load(source)
        label = display_name(results.method)
        label = f"{label} {place}" if label in [other.label for other in found] else label
        found.append(Run(label, results, source, {} if at_hand else None))
    return Comparison(found)


def frames(runs: Comparison) -> "dict[str, pandas.DataFrame]":
    """Every table of the report as a data frame, by the name of its file, and ``classes``; scores are fractions.

    Raises:
        ConfigError: pandas is not installed.
    """
    return {"classes": class_frame(runs), **{name: to_frame(table) for name, table in all_tables(runs).items()}}


def errors(runs: Comparison, axes: Axes | None = None) -> Axes:
    """AP50 that each kind of error costs the last run, by group."""
    return _drawn(runs, "errors", axes, lambda panel, entry: error_plots.draw_errors(panel, runs, entry))


def precision(runs: Comparison, axes: Axes | None = None) -> Axes:
    """Precision against recall of the last run, by group."""
    return _drawn(runs, "curves", axes, lambda panel, entry: error_plots.draw_precision(panel, runs, [entry]))


def f1(runs: Comparison, axes: Axes | None = None) -> Axes:
    """F1 against the threshold of the last run, by group."""
    return _drawn(runs, "curves", axes, lambda panel, entry: error_plots.draw_f1(panel, runs, [entry]))


def flows(runs: Comparison, axes: Axes | None = None) -> Axes:
    """Where the wrong pixels of each group go in the last run."""
    return _drawn(runs, "flows", axes, lambda panel, entry: error_plots.draw_flows(panel, runs, entry))


def _drawn(runs: Comparison, key: str, axes: Axes | None, draw: Callable[[Axes, Any], Any]) -> Axes:
    """Draw the last run; into a new figure where no axes are given.

    Raises:
        DataError: It has no such analysis.
    """
    entry = runs.method
    if key not in entry.prediction.extra:
        raise DataError(f"{entry.label} has no {key}", fix="evaluate or score again with this version")
    with style():
        panel = new_figure(6.0, 3.4)[1] if axes is None else axes
        handles = draw(panel, entry)
        if handles:
            panel.legend(handles=handles)
    return panel
