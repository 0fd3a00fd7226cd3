"""List labels of rare classes that two or more models agree against, for annotators: a CSV file and a page of pictures.

Only models that were not trained on these images can doubt their labels. To check training labels, train twice, each
time on one half of the images, and predict the other half: give the joined predictions of two such pairs of trainings.
"""

import filecmp
import itertools
from pathlib import Path
from typing import Any

from longtail.cli.parser import Namespace, Parser
from longtail.cli.truth import add_truth_arguments, chosen_truth

NAME = "check-labels"
SUMMARY = "labels of rare classes that models agree against"
ORDER = 63


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "predictions", nargs="+", help="detections files, or folders of label images, one for each model"
    )
    add_truth_arguments(parser)
    parser.add_argument(
        "--images", type=str | None, default=None, help="folder of the photographs, for pictures of boxes"
    )
    parser.add_argument("--frequency", type=str | None, default=None, help="counts of the training split, for groups")
    parser.add_argument("--groups", type=list[str] | None, default=None, help="groups to look at [the rarest]")
    parser.add_argument("--score", type=float, default=0.5, help="detection: score from which a model is confident")
    parser.add_argument(
        "--trained_on_these", action="store_true", help="the models were trained on these images: say so everywhere"
    )
    parser.add_argument("--out", type=str, default="suspicious", help="folder for suspicious.csv and suspicious.html")


def run(arguments: Namespace) -> int:
    """List and write."""
    from rich.console import Console

    from longtail.cli.parser import say_warning
    from longtail.reports.suspicions import TRAINED_ON, write_suspicions
    from longtail.training.config import within

    within("--score", arguments.score, 0, 1)
    _check_apart([Path(path) for path in arguments.predictions])
    regions = Path(arguments.predictions[0]).is_dir()
    listed = (_regions if regions else _objects)(arguments)
    page = write_suspicions(listed, arguments.out, trained_on_these=arguments.trained_on_these)
    if arguments.trained_on_these:
        say_warning(TRAINED_ON)
    Console(highlight=False, soft_wrap=True).print(
        f"{len(listed.suspicions)} labels of {', '.join(listed.groups)} classes to look at again: {page}"
    )
    return 0


def _check_apart(paths: list[Path]) -> None:
    """Refuse predictions that are given twice: they agree because they are the same.

    Raises:
        ConfigError: Two paths are one file or folder, or two files are equal.
    """
    from longtail.errors import ConfigError

    for first, second in itertools.combinations(paths, 2):
        files = first.is_file() and second.is_file()
        if first.resolve() == second.resolve() or (files and filecmp.cmp(first, second, shallow=False)):
            raise ConfigError(
                f"{first} and {second} are the same predictions, which agree with themselves",
                fix="give predictions of models that were trained apart",
            )


def _objects(arguments: Namespace) -> Any:
    from longtail.diagnosis.photos import photos_in
    from longtail.diagnosis.suspicious_labels import suspicious_objects
    from longtail.frequency import CategoryGroups, ClassFrequency
    from longtail.metrics.read_detections import read_detections
    from longtail.reports.suspicions import Suspicions

    truth = chosen_truth(arguments)
    groups = truth.groups
    if arguments.frequency:
        counts = ClassFrequency.from_json(arguments.frequency).in_order_of(truth.class_names, "the annotations")
        groups = CategoryGroups.lvis(counts.counts("images"))
    names, rare = _rare(groups, arguments.groups, rarest_first=True)
    found = [read_detections(path, truth) for path in arguments.predictions]
    files = {int(r["id"]): str(r.get("file_name", r["id"])) for r in truth.file.images}
    return Suspicions(
        "detection",
        suspicious_objects(truth, found, rare, arguments.score),
        list(truth.class_names),
        names,
        files,
        None if arguments.images is None else photos_in(arguments.images, truth),
    )


def _regions(arguments: Namespace) -> Any:
    from longtail.cli.commands.score_segmentation import NAME as SCORE
    from longtail.datasets import open_dataset
    from longtail.datasets.open import data_options
    from longtail.datasets.pairs import ImageLabelPairs
    from longtail.diagnosis.label_failures import photos_named
    from longtail.diagnosis.suspicious_labels import suspicious_regions
    from longtail.errors import ConfigError
    from longtail.frequency import CategoryGroups, ClassFrequency
    from longtail.frequency.count_pixels import count_pixels
    from longtail.reports.suspicions import Suspicions

    if arguments.data is None:
        raise ConfigError("label images need their data set", fix=f"name it with --data, as for `longtail {SCORE}`")
    dataset: Any = open_dataset(arguments.data, arguments.split, labels_only=True, **data_options(arguments.options))
    if not isinstance(dataset, ImageLabelPairs):
        raise ConfigError(f"{arguments.data} has no label images", fix="give detections files for boxes")
    if arguments.frequency:
        counts = ClassFrequency.from_json(arguments.frequency).in_order_of(dataset.classes.names, "the data set")
    else:
        counts = count_pixels(dataset)
    names, rare = _rare(CategoryGroups.by_share(counts), arguments.groups, rarest_first=False)
    suspicions: list[Any] = []
    for index, (name, image, _) in enumerate(dataset.pairs):
        maps = [_label_map(folder, name, image) for folder in arguments.predictions]
        suspicions += suspicious_regions(dataset.mask(index), maps, rare, name)
    photo = photos_named({name: image for name, image, _ in dataset.pairs})
    files = {name: image.name for name, image, _ in dataset.pairs}
    suspicions.sort(key=lambda s: -s.confidence)
    return Suspicions("segmentation", suspicions, list(dataset.classes.names), names, files, photo)


def _label_map(folder: str, name: str, image: Any) -> Any:
    """What one model predicts of an image, under the sample's name or the photograph's.

    Raises:
        DataError: There is none.
    """

    from longtail.errors import DataError
    from longtail.frequency.label_image import label_values, open_label

    for stem in (name, Path(name).with_name(image.stem).as_posix()):
        for root in (Path(folder), Path(folder) / "labels"):
            if (file := root / f"{stem}.png").is_file():
                return label_values(open_label(file))
    raise DataError(f"{folder} has no prediction of {name}", fix="predict every image with every model")


def _rare(groups: Any, wanted: list[str] | None, *, rarest_first: bool) -> tuple[list[str], set[int]]:
    """Names of the groups to look at, and their classes.

    Raises:
        ConfigError: There is no such group.
    """
    from longtail.errors import ConfigError

    filled = [name for name, size in zip(groups.names, groups.sizes, strict=True) if size]
    names = wanted or [filled[0] if rarest_first else filled[-1]]
    for name in names:
        if name not in filled:
            raise ConfigError(f"there is no group {name!r}", fix=f"choose from {', '.join(filled)}")
    return names, {c for name, of in zip(groups.names, groups.members, strict=True) if name in names for c in of}
