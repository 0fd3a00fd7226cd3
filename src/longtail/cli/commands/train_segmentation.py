"""Train a segmentation method, all its phases, and score it.

Settings come from --config files and from the options below; later ones win. The resolved settings are written into
the run folder as config.yaml, which --config replays.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from longtail.cli.parser import Namespace, Parser, chosen_device
from longtail.training.config_file import from_dict
from longtail.training.segmentation_config import SegmentationConfig

NAME = "train segmentation"
SUMMARY = "train a segmentation model (MEDOE, baseline, …) and score it"
ORDER = 20


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.usage = "longtail train segmentation [--config FILE …] [--run FOLDER] [--SECTION.SETTING VALUE …]"
    parser.add_argument("--config", action="config", help="YAML file of settings; repeat to layer, later wins")
    parser.add_argument("--run", type=str | None, default=None, help="run folder [runs/DATASET-METHOD]")
    parser.add_argument("--resume", action="store_true", help="continue the run where it was last saved")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that is there")
    parser.add_argument(
        "--from",
        dest="start_from",
        type=str | None,
        default=None,
        help="run, Segmenter folder or checkpoint with the weights to begin with; its finished phases are not run again",
    )
    parser.add_argument("--fast_dev_run", action="store_true", help="two iterations of each phase on a few images")
    parser.add_argument("--dry_run", action="store_true", help="print the plan and its sizes, and train nothing")
    parser.add_argument("--evaluate", type=bool, default=True, help="score the best weights at the end")
    parser.add_class_arguments(SegmentationConfig)


def prepare(words: list[str]) -> list[str]:
    """A resumed run has settings already: they come first, so that options given again can only agree with them."""
    if "--resume" in words and not any(word.split("=")[0] == "--config" for word in words):
        run = next((words[i + 1] for i, word in enumerate(words[:-1]) if word == "--run"), None)
        if run and (settings := Path(run) / "config.yaml").is_file():
            return ["--config", str(settings), *words]
    return words


def run(arguments: Namespace) -> int:
    """Train."""
    config = config_of(arguments)
    from longtail.training.fit import build_task, fit
    from longtail.training.segmentation_task import score_run

    folder = Path(arguments.run or default_folder(config))
    if arguments.dry_run:
        return _dry_run(config, folder)
    task = None
    if arguments.fast_dev_run:
        config = replace(config, data=replace(config.data, limit=2 * config.loading.batch_size))
        task = build_task(config)
        phases: tuple[str, ...] = task.method.phases  # type: ignore[assignment]
        config = replace(config, iterations=dict.fromkeys(phases, 2))
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


def config_of(arguments: Namespace) -> SegmentationConfig:
    """The configuration among the arguments of the command."""
    values: dict[str, Any] = arguments.as_dict()
    return from_dict(SegmentationConfig, {f.name: values[f.name] for f in fields(SegmentationConfig)})


def default_folder(config: SegmentationConfig) -> Path:
    """Run folder of a run that is given no name."""
    data = config.data.dataset.rstrip("/").replace(":", "/").split("/")[-1] or "data"
    return Path("runs") / f"{data}-{config.method.name}"


def _dry_run(config: SegmentationConfig, folder: Path) -> int:
    from longtail.training.console import Console, table
    from longtail.training.fit import build_task
    from longtail.training.optimisers import count_parameters

    console = Console()
    task = build_task(config)
    for subject, words in task.describe():
        console.say(f"[bold]{subject:<9}[/] {words}")
    rows = []
    size = len(task.train_data)  # type: ignore[arg-type]
    for phase in task.method.phases:  # type: ignore[union-attr]
        task.method.start_phase(phase)  # type: ignore[operator]
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
    console.say("")
    console.say(table("", ["phase", "iterations", "passes", "trained M", "optimiser"], rows))
    total = count_parameters(task.method)[0]
    console.say(
        f"\nbatches of {config.loading.batch_size} crops of {config.augmentation.crop[0]} x {config.augmentation.crop[1]}"
        f"; weights {4 * total / 1e6:.1f} MB, training state about {12 * total / 1e6:.1f} MB; run folder {folder}"
    )
    return 0
