"""Results on the console, narrow enough for any terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longtail.cli.parser import Namespace, Parser
    from longtail.metrics.results import Results
    from longtail.reports.comparison import Comparison


def show_results(runs: Sequence[str | Path]) -> None:
    """Print the scores of runs, the baseline's first; only the first rank speaks.

    Args:
        runs: Run folders or ``results.json`` files of one task.
    """
    from longtail.reports.comparison import Comparison
    from longtail.training.run_folder import environment_rank

    if environment_rank() == 0:
        show_comparison(Comparison.load(runs))


def show_comparison(comparison: "Comparison") -> None:
    """Print scores over all classes and by group; comparability warnings go to stderr."""
    from rich.console import Console

    from longtail.cli.parser import say_warning
    from longtail.reports import tables
    from longtail.reports.console import print_table

    console = Console(highlight=False)
    for table in (*tables.group_tables(comparison), tables.overall_table(comparison), tables.expert_table(comparison)):
        if table is not None:
            print_table(table, console)
    for doubt in comparison.doubts:
        say_warning(doubt)


def add_output_arguments(parser: "Parser") -> None:
    """Where scores, their report and their tables are written."""
    parser.add_argument("--out", type=str | None, default=None, help="file or folder to write")
    parser.add_argument("--report", type=str | None, default=None, help="HTML page to write: why the tail fails")
    parser.add_argument("--tables", type=str | None, default=None, help="folder for all tables, as CSV and Markdown")


def save_and_show(results: "Results", arguments: "Namespace", drawn: "Mapping[str, Any] | None" = None) -> None:
    """Print scores; write them where ``--out``, ``--report`` and ``--tables`` say.

    Args:
        results: The scores.
        arguments: Of the command.
        drawn: Class name -> pictures of its failures, for the report.
    """
    from longtail.reports.comparison import Comparison, Run, display_name

    path = Path(arguments.out or "results.json")
    comparison = Comparison([Run(display_name(results.method), results, path, drawn or {})])
    # shown first: scores are not lost where the file cannot be written
    show_comparison(comparison)
    _show_errors(comparison)
    if arguments.out:
        results.save(path / "results.json" if path.is_dir() else path)
    write_outputs([comparison], report=arguments.report, tables=arguments.tables)


def _show_errors(comparison: "Comparison") -> None:
    """Print why the scores are what they are: errors of detections by kind, flows of wrong pixels."""
    from rich.console import Console

    from longtail.reports import error_tables
    from longtail.reports.console import print_table

    for table in (error_tables.error_group_table(comparison), error_tables.flow_table(comparison)):
        if table is not None:
            print_table(table, Console(highlight=False))


def write_outputs(comparisons: "Sequence[Comparison]", *, report: str | None, tables: str | None) -> None:
    """Write the report and the tables that are asked for, and say where they are."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if report:
        from longtail.reports.html import write_page

        console.print(f"report: {write_page(comparisons, report)}")
    if tables:
        from longtail.reports.export import export_tables

        for comparison in comparisons:
            folder = Path(tables) / (comparison.task if len(comparisons) > 1 else "")
            console.print(f"tables: {len(export_tables(comparison, folder))} files in {folder}")


def show_demo(runs: Mapping[str, Sequence[Path]], out: Path, seed: int, began: float) -> None:
    """Print the scores of a demo, write its report into ``out``, and say how long it took since ``began``.

    Args:
        runs: Task -> run folders, the baseline first.
        out: Folder of the report.
        seed: Of all runs.
        began: ``time.monotonic()`` at the start.
    """
    import time

    from rich.console import Console

    from longtail.reports.html import write_report
    from longtail.training.console import duration

    console = Console(highlight=False, soft_wrap=True)
    for task, folders in runs.items():
        console.print(f"\n[bold]{task} on synthetic scenes, seed {seed}[/]")
        show_results(folders)
    console.print("[dim]one run of each method, settings chosen on the same scenes: an illustration, not evidence[/]")
    report = write_report([folder for folders in runs.values() for folder in folders], out / "report.html")
    console.print(f"\n[bold]report[/]    {report.resolve()}")
    console.print(f"[bold]time[/]      {duration(time.monotonic() - began)}")
