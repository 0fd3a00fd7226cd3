"""Train, score and report on synthetic long-tailed scenes, in minutes on two CPU cores.

The plain segmentor is trained beside MEDOE with the same budget; the table and the page show what the experts changed
for the rare classes, and what an oracle that picks the right expert would reach.
"""

from pathlib import Path

from longtail.cli.parser import Namespace, Parser

NAME = "demo"
SUMMARY = "baseline against MEDOE on synthetic scenes, with a report"
ORDER = 0


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument("--out", type=str, default="runs/demo", help="folder of the runs and the report")
    parser.add_argument("--iterations", type=int, default=400, help="optimiser steps of each method")
    parser.add_argument(
        "--ensemble_iterations", type=int, default=100, help="how many of MEDOE's steps fit its ensemble"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument("--overwrite", action="store_true", help="run again what has finished")


def run(arguments: Namespace) -> int:
    """Run the demo."""
    import time

    from longtail.cli.demo_segmentation import run_segmentation_demo
    from longtail.cli.show import show_demo

    began = time.monotonic()
    out = Path(arguments.out)
    runs = run_segmentation_demo(
        out,
        iterations=arguments.iterations,
        ensemble_iterations=arguments.ensemble_iterations,
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    show_demo(runs, out, began)
    return 0
