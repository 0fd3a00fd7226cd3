"""Score anyone's predicted label images by class and group, without a model.

The true labels are those of a data set (--data), with its classes and its table of label values, or a folder of label
images that hold class ids (--labels).
"""

from typing import Any

from longtail.cli.parser import Namespace, Parser
from longtail.cli.show import add_output_arguments

NAME = "score segmentation"
SUMMARY = "score anyone's label images by class and group"
ORDER = 60


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    from longtail.training.segmentation_config import GroupsConfig

    parser.add_argument("--data", type=str | None, default=None, help="data set with the labels, cityscapes:ROOT …")
    parser.add_argument("--split", type=str, default="val", help="split of the data set")
    parser.add_argument(
        "--train_split", type=str | None, default=None, help="training split, for groups and examples in pictures"
    )
    parser.add_argument("--options", type=dict, default={}, help="other arguments of the data set")
    parser.add_argument("--labels", type=str | None, default=None, help="folder of true label images, without --data")
    parser.add_argument(
        "--predictions", type=str, required=True, help="folder of predicted label images, or what predict wrote"
    )
    parser.add_argument("--frequency", type=str | None, default=None, help="counts of the training split, for groups")
    parser.add_argument(
        "--classes",
        type=int | str | None,
        default=None,
        help="a number, or classes.json, classes.txt, labelmap.txt, class_dict.csv; one near --labels is found",
    )
    parser.add_argument(
        "--ignore_index",
        type=int | None,
        default=None,
        help="label value that does not count [classes.json's, or 255]",
    )
    parser.add_argument("--reduce_zero_label", action="store_true", help="labels store class i as i + 1 (ADE20K)")
    parser.add_argument(
        "--label_map", type=dict, default={}, help="what values in labels mean, such as {0: 255, 255: 1, 3-9: 2}"
    )
    parser.add_argument("--label_suffix", type=str, default="", help="end of label names, e.g. _gtFine_labelTrainIds")
    parser.add_argument("--prediction_suffix", type=str, default="", help="end of prediction names")
    parser.add_argument("--name", type=str | None, default=None, help="what to call the predictions")
    add_output_arguments(parser)
    parser.add_class_arguments(GroupsConfig, "groups")


def run(arguments: Namespace) -> int:
    """Score and print."""
    from longtail.cli.show import save_and_show

    drawn: dict[str, Any] = {}
    results = scored(arguments, drawn)
    save_and_show(results, arguments, drawn)
    return 0


def scored(arguments: Namespace, drawn: dict[str, Any] | None = None) -> Any:
    """The scores, as ``Results``; what is doubtful goes to stderr, pictures of failures for a report into ``drawn``.

    Raises:
        ConfigError: The true labels are named twice, or not at all.
    """
    from longtail.cli.parser import say_warning
    from longtail.errors import ConfigError
    from longtail.metrics.score_labels import FROM_VALUES, score_label_folders

    if (arguments.data is None) == (arguments.labels is None):
        raise ConfigError(
            "the true labels are wanted once, as --data or as --labels",
            fix="give --data cityscapes:ROOT (or another data set), or the folder of label images as --labels",
        )
    if arguments.train_split is not None and arguments.data is None:
        raise ConfigError("--train_split without --data", fix="name the data set that it is a split of")
    _look_inside(arguments)
    dataset = None if arguments.data is None else _dataset(arguments, arguments.split)
    training = None if arguments.train_split is None else _dataset(arguments, arguments.train_split)
    results = score_label_folders(
        predictions=arguments.predictions,
        frequency=_pixels(training) if training is not None and not arguments.frequency else arguments.frequency,
        groups=_groups(arguments),
        prediction_suffix=arguments.prediction_suffix,
        name=arguments.name,
        looked_at=_drawing(dataset, training, drawn) if arguments.report and dataset is not None else None,
        **(_of_folder(arguments) if dataset is None else _of_dataset(arguments, dataset)),
    )
    if dataset is not None:
        results.data |= {"name": arguments.data, "split": arguments.split, "fingerprint": dataset.fingerprint}
        results.settings |= {"labels": arguments.data, "classes_from": arguments.data}
    if results.settings["classes_from"] == FROM_VALUES:
        say_warning(
            f"{len(results.class_names)} classes, by the largest value in the files: name the data set with --data, or "
            "give --classes"
        )
    if doubt := results.settings.get("doubt"):
        say_warning(doubt)
    return results


def _pixels(training: Any) -> Any:
    """Counts of a training split."""
    from longtail.frequency.count_pixels import count_pixels
    from longtail.training.groups import frequency_cache

    return count_pixels(training, cache=frequency_cache())


def _drawing(dataset: Any, training: Any, drawn: dict[str, Any] | None) -> Any:
    """What draws the failures of a data set whose photographs are known into ``drawn``."""
    from pathlib import Path

    from longtail.diagnosis.label_failures import photos_named, region_failures

    def draw(diagnosis: Any, class_names: Any) -> None:
        files = {name: image for name, image, _ in dataset.pairs}
        by_photo = {Path(name).with_name(image.stem).as_posix(): image for name, image, _ in dataset.pairs}
        found = region_failures(diagnosis, class_names, photos_named({**by_photo, **files}), training)
        if drawn is not None:
            drawn.update(found)

    return draw


def _look_inside(arguments: Namespace) -> None:
    """Of what `longtail predict` wrote, the label images, under the folder's name."""
    from pathlib import Path

    from longtail.training.predict_folder import PredictionFolder

    folder = PredictionFolder(Path(arguments.predictions), {"labels": ".png"})
    if folder.made_by.is_file() and (labels := folder.path / "labels").is_dir():
        arguments.name = arguments.name or folder.path.name
        arguments.predictions = str(labels)


def _dataset(arguments: Namespace, split: str) -> Any:
    """A split of the data set with the labels.

    Raises:
        ConfigError: It has no label images, or settings are given that it has itself.
    """
    from longtail.datasets import open_dataset
    from longtail.datasets.open import data_options
    from longtail.datasets.pairs import ImageLabelPairs
    from longtail.errors import ConfigError

    for name in ("classes", "ignore_index", "reduce_zero_label", "label_map", "label_suffix"):
        if getattr(arguments, name) not in (None, False, "", {}):
            raise ConfigError(
                f"--{name} with --data, which says it itself", fix="leave it out, or give it in --options"
            )
    dataset = open_dataset(arguments.data, split, labels_only=True, **data_options(arguments.options))
    if not isinstance(dataset, ImageLabelPairs):
        raise ConfigError(
            f"{arguments.data} has no label images",
            fix="score detections with `longtail score detection`, a model with `longtail evaluate`",
        )
    return dataset


def _of_dataset(arguments: Namespace, dataset: Any) -> dict[str, Any]:
    """Labels by the names of their predictions: those of the photographs, as `longtail predict` has them, or the samples'."""
    from pathlib import Path

    from longtail.metrics.score_labels import LABEL_SUFFIXES

    labels = {name: label for name, _, label in dataset.pairs}
    by_photo = {Path(name).with_name(image.stem).as_posix(): label for name, image, label in dataset.pairs}
    folder = Path(arguments.predictions)
    if not arguments.prediction_suffix and any(
        (folder / f"{name}{suffix}").is_file() for name in by_photo for suffix in LABEL_SUFFIXES
    ):
        labels = by_photo
    return {
        "labels": labels,
        "classes": dataset.classes.names,
        "ignore_index": dataset.ignore_index,
        "label_format": dataset.label_format,
    }


def _of_folder(arguments: Namespace) -> dict[str, Any]:
    """Labels of a folder, read as the file of their classes and the options say.

    Raises:
        ConfigError: Values are mapped to classes that are not known.
    """
    from longtail.errors import ConfigError
    from longtail.frequency import ClassFrequency
    from longtail.frequency.label_format import PLAIN

    classes, file = arguments.classes, _class_file(arguments)
    mapped = bool(arguments.label_map) or arguments.reduce_zero_label
    if file is not None:
        classes = file.names
    elif classes is None and arguments.frequency and mapped:
        classes = ClassFrequency.from_json(arguments.frequency).class_names
    default = 255 if file is None else file.ignore_index
    ignored = default if arguments.ignore_index is None else arguments.ignore_index
    label_format = PLAIN if file is None else file.label_format(ignored)
    if mapped:
        if classes is None:
            raise ConfigError("--label_map or --reduce_zero_label without classes", fix="name them with --classes")
        number = classes if isinstance(classes, int) else len(classes)
        label_format = label_format.mapped(
            number, ignored, arguments.label_map, reduce_zero_label=arguments.reduce_zero_label
        )
    return {
        "labels": arguments.labels,
        "classes": classes,
        "ignore_index": ignored,
        "label_format": label_format,
        "label_suffix": arguments.label_suffix,
        **({} if file is None else {"classes_from": str(file.path)}),
    }


def _class_file(arguments: Namespace) -> Any:
    """The classes of --classes, or of a file in the folder of the labels or up to two above; None where there is none."""
    from pathlib import Path

    from longtail.datasets.class_files import find_class_file, read_class_file, voc_classes

    if isinstance(arguments.classes, str):
        return read_class_file(Path(arguments.classes))
    folder = Path(arguments.labels)
    if arguments.classes is not None:
        return None
    if path := find_class_file((folder, *folder.absolute().parents[:2])):
        return read_class_file(path)
    return voc_classes(folder) if folder.name == "SegmentationClass" else None


def _groups(arguments: Namespace) -> Any:
    """What makes the groups of the counts; None for the default, whose origin the results tell in more words."""
    from functools import partial

    from longtail.settings import from_dict
    from longtail.training.groups import pixel_groups
    from longtail.training.segmentation_config import GroupsConfig

    wanted = from_dict(GroupsConfig, arguments.groups.as_dict())
    if wanted == GroupsConfig():
        return None
    return wanted.members if wanted.by == "explicit" else partial(pixel_groups, wanted)
