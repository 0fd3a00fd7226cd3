"""Results on the console."""

from collections.abc import Sequence
from pathlib import Path


def show_results(runs: Sequence[str | Path]) -> None:
    """Print the group table of runs or ``results.json`` files, the baseline first; only the first rank speaks."""
    from rich.console import Console

    from longtail.reports.comparison import Comparison
    from longtail.reports.tables import expert_table, group_table, to_rich
    from longtail.training.run_folder import environment_rank

    if environment_rank() > 0:
        return
    console = Console(highlight=False)
    comparison = Comparison.load(runs)
    for metrics in _parts(comparison.group_metrics):
        for table in (group_table(comparison, metrics=metrics), expert_table(comparison, metrics=metrics)):
            if table is not None:
                console.print(to_rich(table))


def _parts(metrics: list[str]) -> list[list[str] | None]:
    """Metrics that fit beside each other on a terminal: those of boxes and those of masks."""
    masks = [name for name in metrics if name.startswith("mask_")]
    return [[name for name in metrics if name not in masks], masks] if masks else [None]
