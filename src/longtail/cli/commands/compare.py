"""Tell the differences between runs or predictions from chance, with paired intervals over the images.

Runs are folders or results.json files, with the scores image by image next to them (results.npz) that `evaluate` and
`score` write. Predictions are files in COCO's results format with --annotations, or folders of label images with
--data or --labels. The first is the baseline.
"""

from typing import Any

from longtail.cli.parser import Namespace, Parser

NAME = "compare"
SUMMARY = "tell differences between runs or predictions from chance"
ORDER = 51


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument("runs", nargs="+", help="runs, detections files or folders of label images, the baseline first")
    parser.add_argument("--annotations", type=str | None, default=None, help="annotation file of the predictions")
    parser.add_argument("--data", type=str | None, default=None, help="data set of the predictions")
    parser.add_argument("--split", type=str | None, default=None, help="split of the data set [val]")
    parser.add_argument(
        "--labels", type=str | None, default=None, help="folder of true label images of the predictions"
    )
    parser.add_argument("--frequency", type=str | None, default=None, help="counts of the training split, for groups")
    parser.add_argument("--draws", type=int, default=10_000, help="draws of the images")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--report", type=str | None, default=None, help="HTML page to write")
    parser.add_argument("--tables", type=str | None, default=None, help="folder for all tables, as CSV and Markdown")


def run(arguments: Namespace) -> int:
    """Compare and print."""
    from rich.console import Console

    from longtail.cli.parser import say_warning
    from longtail.cli.show import show_comparison, write_outputs
    from longtail.errors import ConfigError
    from longtail.reports.comparison import Comparison
    from longtail.reports.console import print_table
    from longtail.reports.error_tables import interval_table
    from longtail.training.config import positive

    positive("--draws", arguments.draws)
    if len(arguments.runs) < 2:
        raise ConfigError("there is nothing to compare with", fix="name two runs or more, the baseline first")
    draws = (arguments.draws, arguments.seed)
    of_predictions = any(getattr(arguments, name) is not None for name in ("annotations", "data", "labels"))
    comparison = Comparison(_scored(arguments), draws) if of_predictions else Comparison.load(arguments.runs, draws)
    show_comparison(comparison)
    if (table := interval_table(comparison)) is not None:
        print_table(table, Console(highlight=False))
    if comparison.certainty.missing:
        say_warning(comparison.certainty.missing)
    write_outputs([comparison], report=arguments.report, tables=arguments.tables)
    return 0


def _scored(arguments: Namespace) -> list[Any]:
    """Each file or folder of predictions, scored as a run of its own."""
    from pathlib import Path

    from longtail.cli.commands import score_detection, score_segmentation
    from longtail.reports.comparison import Run

    names = [Path(source).stem for source in arguments.runs]
    given = [(name, getattr(arguments, name)) for name in ("annotations", "data", "split", "labels", "frequency")]
    shared = [word for name, value in given if value is not None for word in (f"--{name}", value)]
    runs = []
    for source, stem in zip(arguments.runs, names, strict=True):
        name = stem if names.count(stem) == 1 else source
        command: Any = score_segmentation if Path(source).is_dir() else score_detection
        parser = Parser(prog=f"longtail {NAME}")
        command.add_arguments(parser)
        of = "--predictions" if Path(source).is_dir() else "--detections"
        results = command.scored(parser.parse_args([of, source, "--name", name, *shared]))
        runs.append(Run(name, results, Path(source), {}))
    return runs
