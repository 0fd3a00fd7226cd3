"""Write the report of one or several runs: one HTML page that needs no network."""

from longtail.cli.parser import Namespace, Parser

NAME = "report"
SUMMARY = "an HTML page that compares runs"
ORDER = 50


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "runs", nargs="+", help="run folders or results.json files, the baseline first; of both tasks, a part each"
    )
    parser.add_argument("--out", type=str, default="report.html", help="file or folder to write")


def run(arguments: Namespace) -> int:
    """Write the report and print its table."""
    from rich.console import Console

    from longtail.cli.show import show_comparison
    from longtail.reports.comparison import Comparison
    from longtail.reports.html import write_report

    for comparison in Comparison.by_task(arguments.runs):
        show_comparison(comparison)
    Console(highlight=False, soft_wrap=True).print(f"report: {write_report(arguments.runs, arguments.out)}")
    return 0
