"""Train, score and report on synthetic long-tailed scenes, in minutes on two CPU cores.

Segmentation: the plain segmentor is trained beside MEDOE, and what an oracle that picks the right expert would reach
stands beside them. Detection: Cascade R-CNN is trained beside MEC, whose further ensembles read the same stages. Both
methods of a half have the same budget; the table and the page show what the experts changed for the rare classes.
"""

from pathlib import Path
from typing import Literal

from longtail.cli.parser import Namespace, Parser

NAME = "demo"
SUMMARY = "baselines against MEDOE and MEC on synthetic scenes, with a report"
ORDER = 0


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "--task", type=Literal["segmentation", "detection", "both"], default="both", help="which half to run"
    )
    parser.add_argument("--out", type=str, default="runs/demo", help="folder of the runs and the report")
    parser.add_argument("--iterations", type=int, default=400, help="segmentation: optimiser steps of each method")
    parser.add_argument(
        "--ensemble_iterations", type=int, default=100, help="how many of MEDOE's steps fit its ensemble"
    )
    parser.add_argument(
        "--detection_iterations", type=int, default=280, help="detection: optimiser steps of each method"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument("--overwrite", action="store_true", help="run again what has finished")


def run(arguments: Namespace) -> int:
    """Run the demo."""
    import time

    from longtail.cli.show import show_demo

    began = time.monotonic()
    out = Path(arguments.out)
    again = {"seed": arguments.seed, "overwrite": arguments.overwrite}
    halves: dict[str, list[Path]] = {}
    if arguments.task != "detection":
        from longtail.cli.demo_segmentation import run_segmentation_demo

        halves["segmentation"] = run_segmentation_demo(
            out / "segmentation",
            iterations=arguments.iterations,
            ensemble_iterations=arguments.ensemble_iterations,
            **again,
        )
    if arguments.task != "segmentation":
        from longtail.cli.demo_detection import run_detection_demo

        halves["detection"] = run_detection_demo(out / "detection", iterations=arguments.detection_iterations, **again)
    show_demo(halves, out, arguments.seed, began)
    return 0
