"""Train, score and report detectors on synthetic long-tailed scenes, in minutes on two CPU cores.

Cascade R-CNN is trained beside the multi-expert cascade with the same budget; the table and the page show what the
experts changed for the rare classes, by ensemble and by stage.
"""

from pathlib import Path

from longtail.cli.parser import Namespace, Parser

NAME = "demo detection"
SUMMARY = "Cascade R-CNN against MEC on synthetic scenes, with a report"
ORDER = 1


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument("--out", type=str, default="runs/demo-detection", help="folder of the runs and the report")
    parser.add_argument("--iterations", type=int, default=300, help="optimiser steps of each method")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument("--overwrite", action="store_true", help="run again what has finished")


def run(arguments: Namespace) -> int:
    """Run the demo."""
    import time

    from longtail.cli.demo_detection import run_detection_demo
    from longtail.cli.show import show_demo

    began = time.monotonic()
    out = Path(arguments.out)
    runs = run_detection_demo(out, iterations=arguments.iterations, seed=arguments.seed, overwrite=arguments.overwrite)
    show_demo(runs, out, began)
    return 0
