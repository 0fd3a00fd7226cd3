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
    parser.add_argument("--tables", type=str | None, default=None, help="folder for all tables, as CSV and Markdown")


def run(arguments: Namespace) -> int:
    """Write the report and print its table."""
    from longtail.cli.show import show_comparison, write_outputs
    from longtail.reports.comparison import Comparison

    comparisons = Comparison.by_task(arguments.runs)
    for comparison in comparisons:
        show_comparison(comparison)
    write_outputs(comparisons, report=arguments.out, tables=arguments.tables)
    return 0
