"""Reproduce a table or figure of a paper, on its data or on yours.

Train the missing runs, each once for all tables, then print and write the table: the published number, ours with mean
and spread over seeds, and the change paired by seed. Without an experiment, list all.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from longtail.cli.parser import Namespace, Parser

if TYPE_CHECKING:
    from longtail.reproduce.catalogue import Catalogue, Experiment
    from longtail.reproduce.plan import PlannedRun

NAME = "reproduce"
SUMMARY = "make a table or figure of a paper, on its data or on yours"
ORDER = 60
#: Runs that one report can show side by side.
_REPORTED = 6


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument("paper", type=Literal["medoe", "mec"], help="medoe (segmentation) or mec (detection)")
    parser.add_argument("experiment", type=str | None, nargs="?", default=None, help="such as table-6 or figure-4")
    parser.add_argument("--data", type=str | None, default=None, help="data set, as data.dataset of a training run")
    parser.add_argument(
        "--part", type=str | None, default=None, help="data set of the paper; its first where not given"
    )
    parser.add_argument("--budget", type=str, default="small", help="smoke, small, medium or paper")
    parser.add_argument(
        "--seeds", type=list[int] | None, default=None, help="such as [0,1,2]; the budget's where not given"
    )
    parser.add_argument("--weights", type=str | None, default=None, help="file of encoder weights for every run")
    parser.add_argument("--settings", type=str | None, default=None, help="YAML file of settings over all others")
    parser.add_argument("--out", type=str, default="runs/reproduce", help="folder of all reproductions")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--devices", type=list[str], default=[], help="CUDA devices to share out, such as [0,1]")
    parser.add_argument("--reference", type=str | None, default=None, help="LVIS's annotations, for figure-5 of mec")
    parser.add_argument("--dry_run", action="store_true", help="print the runs and their cost")
    parser.add_argument(
        "--commands", action="store_true", help="write the settings and print one command a missing run"
    )
    parser.add_argument("--show", action="store_true", help="write the table of the runs that are there; train nothing")


def run(arguments: Namespace) -> int:
    """List, plan, or run and tabulate."""
    from longtail.errors import ConfigError
    from longtail.reproduce.catalogue import Catalogue, budget
    from longtail.reproduce.plan import plan
    from longtail.settings import read_yaml

    catalogue = Catalogue(arguments.paper)
    if arguments.experiment is None:
        return _list(catalogue)
    if (arguments.paper, arguments.experiment) == ("mec", "figure-5"):
        return _distribution(arguments)
    if arguments.data is None:
        raise ConfigError("--data is not given", fix="name a data set, such as cityscapes:ROOT or your own folder")
    spending = budget(arguments.budget)
    experiment = catalogue.experiment(arguments.experiment, arguments.part)
    runs = plan(
        catalogue,
        experiment,
        data=arguments.data,
        budget=spending,
        seeds=arguments.seeds or range(spending.seeds),
        out=arguments.out,
        changes=read_yaml(arguments.settings) if arguments.settings else None,
        weights=arguments.weights,
    )
    if arguments.dry_run:
        return _dry_run(runs, experiment)
    if arguments.commands:
        return _commands(runs)
    if arguments.show:
        if not any(planned.state == "done" for planned in runs):
            raise ConfigError(f"no run has results in {runs[0].folder.parent}", fix="leave out --show to make them")
        _show(experiment, runs, arguments)
        return 0
    from longtail.reproduce.execute import execute
    from longtail.training.console import Console

    try:
        execute(runs, jobs=arguments.jobs, devices=arguments.devices, say=Console().say)
    finally:
        # finished runs are shown even where another failed
        if any(planned.state == "done" for planned in runs):
            _show(experiment, runs, arguments)
    return 0


def _list(catalogue: "Catalogue") -> int:
    from rich.table import Table

    from longtail.reproduce.catalogue import budgets
    from longtail.training.console import Console

    experiments = Table("experiment", "data", "shows", box=None, title=catalogue.title, title_justify="left")
    for name in catalogue.names:
        experiments.add_row(name, ", ".join(catalogue.parts(name)), catalogue.experiment(name).title)
    if catalogue.paper == "mec":
        experiments.add_row("figure-5", "coco_lt", "distribution of COCO-LT (--data COCO.json --reference LVIS.json)")
    spendings = Table("budget", "seeds", "expect", box=None)
    for spending in budgets().values():
        spendings.add_row(spending.name, str(spending.seeds), spending.title)
    console = Console()
    console.say(experiments)
    console.say("")
    console.say(spendings)
    return 0


def _dry_run(runs: "list[PlannedRun]", experiment: "Experiment") -> int:
    from longtail.training.console import Console, table

    known = [r.speed for r in runs if r.speed]
    typical = sum(known) / len(known) if known else None
    rows = []
    hours = 0.0
    for planned in runs:
        speed = planned.speed or typical
        cost = planned.iterations / speed / 3600 if speed and planned.iterations else None
        hours += cost if cost and planned.state != "done" else 0.0
        rows.append(
            (
                planned.folder.name,
                planned.state,
                planned.length if planned.iterations is None else f"{planned.iterations:,}",
                "unknown" if planned.images is None else f"{planned.images:,}",
                "unknown" if cost is None else f"{60 * cost:.0f} min",
            )
        )
    console = Console()
    console.say(
        table(f"{experiment.paper} {experiment.name}", ["run", "state", "iterations", "images", "training"], rows)
    )
    left = [planned for planned in runs if planned.state != "done"]
    estimate = f", about {hours:.1f} hours one after another" if typical else "; the first run will tell the speed"
    console.say(f"\n{len(left)} of {len(runs)} runs to make, {sum(r.images or 0 for r in left):,} images{estimate}")
    return 0


def _commands(runs: "list[PlannedRun]") -> int:
    import shlex
    import sys

    from longtail.reproduce.execute import command, write_settings

    for planned in runs:
        if planned.state != "done":
            write_settings(planned)
            # one line each, however narrow the terminal: a queue reads them
            sys.stdout.write(shlex.join(["longtail", *command(planned)]) + "\n")
    return 0


def _show(experiment: "Experiment", runs: "list[PlannedRun]", arguments: Namespace) -> None:
    from rich.console import Console

    from longtail.reports.console import print_table
    from longtail.reports.curve import write_curve
    from longtail.reports.html import write_report
    from longtail.reproduce import page
    from longtail.reproduce.outcome import outcome

    made = outcome(experiment, runs, data=arguments.data, budget=arguments.budget)
    path = page.save(made, runs[0].folder.parent / "tables")
    console = Console(highlight=False)
    print_table(page.table(made), console)
    console.print(made.claims())
    written = [path]
    if experiment.curve:
        written.append(write_curve(page.curve_series(made), experiment.curve, path.with_suffix(".svg")))
    first = min(planned.seed for planned in runs)
    asked = [planned for planned in runs if planned.key in experiment.runs]
    folders = [planned.folder for planned in asked if planned.seed == first and planned.state == "done"]
    if len(folders) > _REPORTED:
        folders = [*folders[: _REPORTED - 1], folders[-1]]
    written.append(write_report(folders, path.with_suffix(".html"), page.section(made)))
    for each in written:
        console.print(f"[bold]written[/]   {each}", soft_wrap=True)


def _distribution(arguments: Namespace) -> int:
    from longtail.cli.commands import build_coco_lt
    from longtail.errors import ConfigError

    if arguments.data is None or arguments.reference is None:
        raise ConfigError(
            "figure-5 needs the annotations of COCO and of LVIS",
            fix="give --data instances_train2017.json --reference lvis_v1_train.json",
        )
    parser = Parser(prog="longtail build-coco-lt")
    build_coco_lt.add_arguments(parser)
    out = str(Path(arguments.out) / "mec" / "figure-5")
    return build_coco_lt.run(parser.parse_args([arguments.data, "--reference", arguments.reference, "--out", out]))
