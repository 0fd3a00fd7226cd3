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
    for table in (group_table(comparison), expert_table(comparison)):
        if table is not None:
            console.print(to_rich(table))
