"""Score anyone's detections by class and group, without a model.

The detections are a file in COCO's results format; several files stand side by side, the first as the baseline.
"""

from typing import Any, Literal

from longtail.cli.parser import Namespace, Parser
from longtail.cli.show import add_output_arguments
from longtail.cli.truth import add_truth_arguments, chosen_truth, objects_of

NAME = "score detection"
SUMMARY = "score anyone's detections by class and group"
ORDER = 61


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    add_truth_arguments(parser)
    parser.add_argument("--detections", type=str, nargs="+", required=True, help="files in COCO's results format")
    parser.add_argument(
        "--iou_type",
        type=Literal["bbox", "segm", "both"] | None,
        default=None,
        help="boxes or masks; masks too where all detections have them when not given",
    )
    parser.add_argument(
        "--federated",
        type=bool | None,
        nargs="?",
        const=True,
        default=None,
        help="LVIS's rules; as the file is by default",
    )
    parser.add_argument("--frequency", type=str | None, default=None, help="counts of the training split, for groups")
    parser.add_argument(
        "--edges", type=tuple[int, ...] | None, default=None, help="training instances that part the groups"
    )
    parser.add_argument("--max_detections", type=int | None, default=None, help="limit an image (300) or class (100)")
    parser.add_argument("--name", type=str | None, default=None, help="name of the detections of one file")
    parser.add_argument(
        "--thresholds", type=str | None, default=None, help="file for the thresholds of the best F1, for `predict`"
    )
    parser.add_argument("--images", type=str | None, default=None, help="folder of the photographs, for pictures")
    parser.add_argument(
        "--train", type=str | None, default=None, help="annotation file of the training split, for groups and pictures"
    )
    parser.add_argument("--train_images", type=str | None, default=None, help="its photographs, where not in --images")
    parser.add_argument(
        "--train_split", type=str | None, default=None, help="training split of --data, instead of --train"
    )
    add_output_arguments(parser)


def run(arguments: Namespace) -> int:
    """Score and print."""
    from longtail.cli.show import save_and_show
    from longtail.metrics.operating_points import save_thresholds

    drawn: dict[str, Any] = {}
    training = _training(arguments)
    results = scored(arguments, _drawing(arguments, training, drawn), training)
    save_and_show(results, arguments, drawn.get(results.method, {}))
    if arguments.thresholds:
        save_thresholds(results.own.extra["operating_points"], results.class_names, arguments.thresholds)
    return 0


def scored(arguments: Namespace, looked_at: Any = None, training: Any = None) -> Any:
    """The scores of all files, as ``Results``.

    Args:
        arguments: Of the command.
        looked_at: See ``score_detections``.
        training: Annotations of the training split, for groups where no frequency is given.
    """
    from longtail.metrics.score_detections import score_detections

    files = list(arguments.detections)
    _check(arguments, files)
    named = {_unique(file, files): file for file in files} if len(files) > 1 else files[0]
    kinds: dict[str | None, Any] = {None: None, "bbox": ("bbox",), "segm": ("segm",), "both": ("bbox", "segm")}
    return score_detections(
        chosen_truth(arguments),
        named,
        iou_types=kinds[arguments.iou_type],
        federated=arguments.federated,
        frequency=training.counted if training is not None and not arguments.frequency else arguments.frequency,
        edges=arguments.edges,
        max_detections=arguments.max_detections,
        name=arguments.name,
        looked_at=looked_at,
    )


def _training(arguments: Namespace) -> Any:
    """Annotations of the training split, None where none is named.

    Raises:
        ConfigError: It is named twice, or is a split of no data set.
    """
    from longtail.errors import ConfigError
    from longtail.metrics.detection_truth import DetectionTruth

    if arguments.train_split is None:
        return None if arguments.train is None else DetectionTruth(arguments.train)
    if arguments.train is not None or arguments.data is None:
        problem = "with --train" if arguments.train is not None else "without --data"
        raise ConfigError(f"--train_split {problem}", fix="give --data and --train_split, or --train FILE")
    return DetectionTruth.from_dataset(objects_of(arguments.data, arguments.train_split, arguments.options))


def _drawing(arguments: Namespace, training: Any, drawn: dict[str, Any]) -> Any:
    """What draws the failures of each file into ``drawn``; None without photographs.

    Raises:
        ConfigError: Training photographs are given without the evaluated ones, or the training split has other classes.
    """
    from longtail.diagnosis.failures import object_failures
    from longtail.errors import ConfigError

    if arguments.images is None and arguments.train_images:
        raise ConfigError("--train_images without --images", fix="name the folder of the photographs")
    if arguments.images is None and not (arguments.report and arguments.data):
        return None

    def draw(name: str, truth: Any, errors: Any) -> None:
        examples = None
        if training is not None:
            if training.class_names != truth.class_names:
                raise ConfigError(
                    f"{arguments.train or arguments.train_split} has other classes",
                    fix="give the same data set's training split",
                )
            folder = arguments.train_images or arguments.images
            if folder or arguments.train_split:
                examples = (training, _photos(arguments, folder, arguments.train_split, training))
        drawn[name] = object_failures(
            truth, errors, _photos(arguments, arguments.images, arguments.split, truth), examples
        )

    return draw


def _photos(arguments: Namespace, folder: str | None, split: str | None, truth: Any) -> Any:
    """Photographs of a folder; without one, those of a split of the data set."""
    from longtail.datasets import open_dataset
    from longtail.datasets.open import data_options
    from longtail.diagnosis.photos import photos_in, photos_of

    if folder is not None:
        return photos_in(folder, truth)
    return photos_of(
        open_dataset(arguments.data, str(split), **{**data_options(arguments.options), "task": "detection"})
    )


def _check(arguments: Namespace, files: list[str]) -> None:
    from longtail.errors import ConfigError

    for file in files:
        if files.count(file) > 1:
            raise ConfigError(f"--detections names {file} {files.count(file)} times", fix="name each file once")
    if arguments.name is not None and len(files) > 1:
        raise ConfigError(f"--name for {len(files)} files", fix="leave it out: files are called by their own names")


def _unique(file: str, files: list[str]) -> str:
    from pathlib import Path

    stem = Path(file).stem
    return stem if [Path(f).stem for f in files].count(stem) == 1 else file
