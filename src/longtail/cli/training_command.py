"""What the `train` commands have in common."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from longtail.cli.parser import Namespace, Parser, chosen_device
from longtail.cli.settings_arguments import add_settings
from longtail.errors import ConfigError
from longtail.settings import from_dict, read_yaml

#: Settings that a run takes from the one whose weights it begins with.
_SHARED = ("data", "augmentation", "model", "optimiser", "loading", "hardware", "logging", "evaluation")


_MORE_HELP = """The options of a component stand next to its name: --method.name mcn --help shows those of mcn.
Losses and ensembles are given as NAME or as {name: NAME, OPTION: VALUE}; `longtail info` lists all components,
`longtail info NAME` prints the options of one.
"""


def add_training_arguments(parser: Parser, task: str, config: type) -> None:
    """Arguments of ``longtail train TASK``: those of every run, then all settings of its configuration."""
    parser.usage = f"longtail train {task} [--config FILE …] [--run FOLDER] [--SECTION.SETTING VALUE …]"
    parser.add_argument("--config", action="config", help="YAML file of settings; repeat to layer, later wins")
    parser.add_argument("--run", type=str | None, default=None, help="run folder [runs/DATASET-METHOD]")
    parser.add_argument("--resume", action="store_true", help="continue the run where it was last saved")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that is there")
    parser.add_argument(
        "--from",
        dest="start_from",
        type=str | None,
        default=None,
        help="run, published model or checkpoint with the weights to begin with; its finished phases are not run again. "
        "Data, model and optimiser are those of that run, unless --config or --data.dataset names them",
    )
    parser.add_argument("--fast_dev_run", action="store_true", help="two iterations of each phase on a few images")
    parser.add_argument("--dry_run", action="store_true", help="print the plan and its sizes, and train nothing")
    parser.add_argument("--evaluate", type=bool, default=True, help="score the best weights at the end")
    add_settings(parser, config)
    parser.more_help = _MORE_HELP


def settings_of_earlier_run(words: list[str]) -> list[str]:
    """Begin with the settings of the run that is resumed, or that the weights come from; words given again win.

    A run ``--from`` another one takes what both have in common (``_SHARED``), unless its data or a file are named.
    """
    parted = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    given = dict(zip(parted, [*parted[1:], ""], strict=True))
    if "--config" in given:
        return words
    if "--resume" in given and (settings := Path(given.get("--run", "")) / "config.yaml").is_file():
        return ["--config", str(settings), *words]
    settings = Path(given.get("--from", "")) / "config.yaml"
    if "--data.dataset" in given or "--from" not in given or not settings.is_file():
        return words
    earlier = read_yaml(settings)
    if "model" in earlier:
        for network in (earlier["model"], earlier["model"].get("backbone", {})):
            network.pop("weights", None)  # the run's own are loaded
    shared = [(f"--{key}", json.dumps(earlier[key])) for key in _SHARED if key in earlier]
    return [*(word for pair in shared for word in pair), *words]


def config_of(arguments: Namespace, kind: type) -> Any:
    """The configuration among the arguments of the command."""
    values: dict[str, Any] = arguments.as_dict()
    return from_dict(kind, {f.name: values[f.name] for f in fields(kind)})


def train(arguments: Namespace, kind: type) -> int:
    """Train, then score.

    Args:
        arguments: Of the command.
        kind: Class of the configuration.

    Raises:
        ConfigError: A run is to be resumed that is not there.
    """
    config = config_of(arguments, kind)
    folder = Path(arguments.run or default_folder(config))
    if arguments.resume and not config.data.dataset and not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"there is nothing to resume in {folder}",
            fix="name the folder of a run with --run, or begin one with --data.dataset",
        )
    if arguments.start_from and not config.data.dataset:
        raise ConfigError(
            f"{arguments.start_from} is no run folder whose data could be used, and data.dataset is not given",
            fix="name the folder of a run with --from, or the data with --data.dataset",
        )
    if arguments.dry_run:
        return _dry_run(config, folder, arguments)
    from longtail.training.run import build_task, fit, score_run

    task = None
    if arguments.fast_dev_run:
        config = replace(config, data=replace(config.data, limit=2 * config.loading.batch_size))
        task = build_task(config)
        phases: tuple[str, ...] = task.method.phases
        config = replace(config, iterations=dict.fromkeys(phases, 2), epochs={})
    done = fit(
        config,
        folder,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        start_from=arguments.start_from,
        task=task,
    )
    if arguments.evaluate and config.data.val_split:
        device = chosen_device(config.hardware.accelerator.replace("gpu", "auto"))
        score_run(done.path, device=device, trust_code=True)  # the model that was just trained
        from longtail.cli.show import show_results

        show_results([done.path])
    return 0


def default_folder(config: Any) -> Path:
    """Run folder of a run that is given no name."""
    data = config.data.dataset.rstrip("/").replace(":", "/").split("/")[-1] or "data"
    return Path("runs") / f"{data}-{config.method.name}"


def _dry_run(config: Any, folder: Path, arguments: Namespace) -> int:
    from longtail.training.console import Console, table
    from longtail.training.loading import BatchPlan, pass_length
    from longtail.training.optimisers import count_parameters
    from longtail.training.preflight import check_batch_norm, check_finished_model, check_weights, doubts
    from longtail.training.run import build_task
    from longtail.training.run_folder import RunFolder

    console = Console()
    RunFolder(folder).check(resume=arguments.resume, overwrite=arguments.overwrite)
    task = build_task(config)
    check_finished_model(task, arguments.start_from)
    done: tuple[str, ...] = ()
    if arguments.start_from:
        phases, reset = task.method.phases, config.reset_classifier
        done, adopted = check_weights(
            task.method, arguments.start_from, phases, reset_classifier=reset, allow_partial=config.allow_partial
        )
        console.say(table("", [f"from {arguments.start_from}", "tensors", "origin"], adopted.rows()))
        if adopted.note:
            console.say(adopted.note)
    for subject, words in task.describe():
        console.say(f"[bold]{subject:<9}[/] {words}")
    hardware = config.hardware
    ranks = hardware.num_nodes * (hardware.devices if isinstance(hardware.devices, int) else 1)
    device = "cpu" if hardware.accelerator == "cpu" else chosen_device("auto").partition(":")[0]
    rows = []
    size = pass_length(task.order)
    config = config.resolved(task.method.phases, size)
    for phase in task.method.phases:
        task.method.start_phase(phase)
        if phase not in done:
            check_batch_norm(task.method, config, ranks, device)
        iterations, optimiser = config.iterations_of(phase), config.optimiser_of(phase)
        rows.append(
            (
                phase,
                f"{iterations:,}",
                f"{iterations * config.loading.batch_size / size:.1f}",
                f"{count_parameters(task.method)[1] / 1e6:.3f}",
                f"{optimiser.name} {optimiser.recipe('lr'):g}",
            )
        )
    BatchPlan(task.order, config.loading.batch_size, hardware.accumulate, ranks, 0, 1, config.seed, "")
    for doubt in doubts(config, device):
        console.say(f"[yellow]warning[/]   {doubt}")
    console.say("")
    console.say(table("", ["phase", "iterations", "passes", "trained M", "optimiser"], rows))
    total = count_parameters(task.method)[0]
    console.say(
        f"\nbatches of {config.loading.batch_size} {task.input_words()}; weights {4 * total / 1e6:.1f} MB, training state "
        f"about {12 * total / 1e6:.1f} MB; run folder {folder}"
    )
    return 0
