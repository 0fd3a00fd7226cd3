"""The dial: mIoU against mAcc as τ moves pixels from frequent to rare classes."""

from longtail.reports.axes import SERIES_COLOURS, legend_below, plain
from longtail.reports.comparison import Comparison, Run
from longtail.reports.plots import WIDTH, for_page
from longtail.reports.svg import new_figure, style

_PREFIX = "tau_"


def dial_points(run: Run) -> list[tuple[float, float, float]]:
    """τ, mIoU and mAcc in percent of every reading ``tau_…`` of a run, by τ."""
    points = []
    for name, prediction in run.results.predictions.items():
        if name.startswith(_PREFIX):
            miou, macc = (prediction.overall.get(metric) for metric in ("mIoU", "mAcc"))
            if miou is not None and macc is not None:
                points.append((float(name.removeprefix(_PREFIX)), 100 * miou, 100 * macc))
    return sorted(points)


@style()
def dial_curves(comparison: Comparison) -> str | None:
    """One curve for each run that was read at two or more τ, and each run's own prediction as a diamond.

    Source: SPEC part 3, §3.1: the nested chain over τ beside the baseline with logit adjustment over its τ.
    """
    curves = {run.label: points for run in comparison.runs if len(points := dial_points(run)) > 1}
    if not curves:
        return None
    figure, panel = new_figure(0.6 * WIDTH, 3.6)
    handles = []
    for number, run in enumerate(comparison.runs):
        colour = SERIES_COLOURS[number % len(SERIES_COLOURS)]
        points = curves.get(run.label, [])
        x, y = [macc for _, _, macc in points], [miou for _, miou, _ in points]
        handles += panel.plot(x, y, "o-", color=colour, lw=1.6, ms=4, label=plain(run.label))
        for tau, miou, macc in points:
            panel.annotate(f"{tau:g}", (macc, miou), xytext=(3, 3), textcoords="offset points", size=6.5, color=colour)
        own = [run.results.own.overall[metric] for metric in ("mAcc", "mIoU")]
        if None not in own:
            panel.plot(*([100 * value] for value in own if value is not None), "D", color=colour, ms=6, alpha=0.6)
    panel.set_xlabel("mAcc, %")
    panel.set_ylabel("mIoU, %")
    legend_below(figure, handles)
    return for_page(figure, comparison, "dial", "mIoU against mAcc over tau")
