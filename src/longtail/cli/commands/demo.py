"""Train, score and report on synthetic long-tailed scenes, in minutes on two CPU cores.

Segmentation: the plain segmentor is trained next to MEDOE, and what an oracle that picks the right expert would reach
stands next to them. Detection: Cascade R-CNN is trained next to MEC, whose other ensembles read the same stages. Both
methods of a half have the same budget; the table and the page show what the experts changed for the rare classes.
"""

from pathlib import Path
from typing import Any, Literal

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

    from longtail.cli.demo_runs import detection_runs, make_runs, segmentation_runs
    from longtail.cli.show import show_demo

    began, out = time.monotonic(), Path(arguments.out)
    halves: dict[str, Any] = {
        "segmentation": segmentation_runs(arguments.iterations, arguments.ensemble_iterations, arguments.seed),
        "detection": detection_runs(arguments.detection_iterations, arguments.seed),
    }
    folders = {
        task: make_runs(configs, out / task, overwrite=arguments.overwrite)
        for task, configs in halves.items()
        if arguments.task in (task, "both")
    }
    show_demo(folders, out, arguments.seed, began)
    return 0
