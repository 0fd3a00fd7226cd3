"""Score trained weights with every readout, by class and group; writes results.json and pictures/.

The run folder takes the scores of the run's own validation alone: all others go where --out says.
"""

from pathlib import Path
from typing import Any

from longtail.cli.parser import Namespace, Parser, chosen_device, refuse_misplaced, say_warning

NAME = "evaluate"
SUMMARY = "score a run or a model by class and group"
ORDER = 30


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    from longtail.training.detection_config import EvaluationGroups

    parser.add_argument("model", type=str, help="run folder, published folder or Hub id")
    parser.add_argument("--data", type=str | None, default=None, help="data set; that of the run when not given")
    parser.add_argument("--split", type=str | None, default=None, help="split; the validation split when not given")
    parser.add_argument("--options", type=dict, default={}, help="other arguments of the data set")
    parser.add_argument("--out", type=str | None, default=None, help="folder to write into [the run]")
    parser.add_argument("--trust_code", action="store_true", help="let the model name code outside this library")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, mps …")
    parser.add_argument("--window", type=tuple[int, int] | None, default=None, help="sliding window, as [h, w]")
    parser.add_argument("--stride", type=tuple[int, int] | None, default=None, help="step of the window, as [h, w]")
    parser.add_argument("--readouts", type=list[str] | None, default=None, help="detection: ways to read the stages")
    parser.add_argument("--scales", type=tuple[float, ...] | None, default=None, help="detection: sizes to look at")
    parser.add_argument("--flip", action="store_true", help="detection: look at mirrored images, too")
    parser.add_argument(
        "--groups",
        type=EvaluationGroups | None,
        default=None,
        help="detection: groups to score by, see evaluation.groups of `train detection`; those of the run when not given",
    )
    parser.add_argument("--record", type=str | None, default=None, help="folder to record experts or stages in")
    parser.add_argument(
        "--taus",
        type=tuple[float, ...] | None,
        default=None,
        help="segmentation: other tau to score, see evaluation.taus",
    )
    parser.add_argument("--last", action="store_true", help="score the last weights of the run instead of the best")
    parser.add_argument("--limit", type=int | None, default=None, help="score only that many images")
    parser.add_argument(
        "--pictures", type=int | None, default=None, help="images to write for the report; as the run has them [6]"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that load images")


def run(arguments: Namespace) -> int:
    """Evaluate and print."""
    from longtail.cli.show import show_results
    from longtail.errors import ConfigError
    from longtail.files import make_folder
    from longtail.models.pretrained import saved_task
    from longtail.training.config import not_negative, positive
    from longtail.training.run_folder import RunFolder

    positive("--limit", arguments.limit)
    not_negative("--pictures", arguments.pictures)
    not_negative("--workers", arguments.workers)
    detection = saved_task(arguments.model) == "detection"
    refuse_misplaced(arguments, detection, ("readouts", "scales", "flip", "groups"))
    folder = Path(arguments.model)
    is_run = RunFolder(folder).settings.is_file()
    if not is_run and not (arguments.data and arguments.split):
        raise ConfigError(
            f"{folder} does not say which data it was trained on", fix="name them with --data and --split"
        )
    out = Path(arguments.out or folder)
    if arguments.data and out.resolve() == folder.resolve():
        raise ConfigError(f"scores of {arguments.data} are not {folder}'s own", fix="name a folder for them with --out")
    make_folder(out)
    if not arguments.data:
        _score_run(arguments, folder, out, detection)
    else:
        _score_elsewhere(arguments, out, detection)
    show_results([out])
    return 0


def _score_run(arguments: Namespace, folder: Path, out: Path, detection: bool) -> None:
    """A run on data of its own, with its own settings but for those that the arguments change."""
    from longtail.settings import read_yaml
    from longtail.training.run import score_run

    settings = read_yaml(folder / "config.yaml")
    if detection:
        names: tuple[str, ...] = ("scales", "flip", "groups", "readouts")
        changed = {name: getattr(arguments, name) for name in names if getattr(arguments, name)}
    else:
        changed = {"sliding_window": arguments.window, "stride": arguments.stride} if arguments.window else {}
        changed |= {"taus": arguments.taus} if arguments.taus else {}
    pictures = {} if arguments.pictures is None else {"pictures": arguments.pictures}
    score_run(
        folder,
        split=arguments.split,
        device=chosen_device(arguments.device),
        out=out,
        last=arguments.last,
        trust_code=arguments.trust_code,
        changes={
            "evaluation": {**settings["evaluation"], **changed, **pictures},
            "data": {**settings["data"], **({"limit": arguments.limit} if arguments.limit else {})},
            "loading": {**settings["loading"], "workers": arguments.workers},
        },
        **({"recording": arguments.record} if arguments.record else {}),
    )


def _score_elsewhere(arguments: Namespace, out: Path, detection: bool) -> None:
    """A model on data named by the arguments."""
    from longtail.datasets import open_dataset
    from longtail.datasets.open import data_options
    from longtail.training.run_folder import RunFolder, environment_rank

    target = RunFolder(out)
    task: Any = "detection" if detection else "segmentation"
    split = arguments.split or "val"
    if detection:
        from longtail.models.detector import Detector as Model
    else:
        from longtail.models.segmenter import Segmenter as Model  # type: ignore[assignment]
    model = _loaded(arguments, Model)
    options = {**data_options(arguments.options), "task": task}
    dataset: Any = open_dataset(arguments.data, split, photos=model.photos, **options)
    if dataset.note and environment_rank() == 0:
        say_warning(dataset.note)
    shared: dict[str, Any] = {
        "workers": arguments.workers,
        "pictures": 6 if arguments.pictures is None else arguments.pictures,
        "pictures_dir": target.pictures,
        "limit": arguments.limit,
        "progress": True,
        "data": {"name": arguments.data, "split": split},
        "settings": {"model": arguments.model},
    }
    if detection:
        from longtail.models.detector import augmented
        from longtail.training.evaluate_detection import evaluate_detection

        if arguments.flip or arguments.scales:
            model.method = augmented(model.method, arguments.scales or (1.0,), arguments.flip)
        read = {"readouts": arguments.readouts, "recording": arguments.record}
        results = evaluate_detection(model, dataset, groups=arguments.groups or "auto", **read, **shared)
    else:
        from longtail.training.evaluate_segmentation import evaluate_segmentation
        from longtail.training.tasks.segmentation import label_doubt

        if (doubt := label_doubt(dataset, arguments.data)) and environment_rank() == 0:
            say_warning(doubt)
        windows = {"sliding_window": arguments.window, "stride": arguments.stride}
        dial = model.ensembles(model.dial(arguments.taus or ()))
        shared["settings"] |= {"evaluation": {"taus": list(arguments.taus or ())}}
        results = evaluate_segmentation(model, dataset, ensembles=dial, recording=arguments.record, **windows, **shared)
    if environment_rank() == 0:
        results.save(target.results)


def _loaded(arguments: Namespace, kind: Any) -> Any:
    model = kind.from_pretrained(arguments.model, trust_code=arguments.trust_code)
    return model.to(chosen_device(arguments.device))
