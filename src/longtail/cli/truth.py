"""``--annotations`` and ``--data``: the annotations that a command scores against."""

from typing import Any

from longtail.cli.parser import Namespace, Parser


def add_truth_arguments(parser: Parser) -> None:
    """The file of annotations, or the data set."""
    parser.add_argument("--annotations", type=str | None, default=None, help="COCO- or LVIS-style annotation file")
    parser.add_argument(
        "--data", type=str | None, default=None, help="data set with the annotations instead: a folder, yolo:ROOT …"
    )
    parser.add_argument("--split", type=str, default="val", help="split of the data set")
    parser.add_argument("--options", type=dict, default={}, help="other arguments of the data set")


def chosen_truth(arguments: Namespace) -> Any:
    """The annotations, as a ``DetectionTruth``.

    Raises:
        ConfigError: Both are given, or neither.
        DataError: They cannot be read.
    """
    from longtail.errors import ConfigError
    from longtail.metrics.detection_truth import DetectionTruth

    if (arguments.annotations is None) == (arguments.data is None):
        raise ConfigError(
            "the true objects are wanted once, as --annotations or as --data",
            fix="give --annotations val.json, or --data yolo:ROOT (or another data set)",
        )
    if arguments.data is None:
        return DetectionTruth(arguments.annotations)
    return DetectionTruth.from_dataset(objects_of(arguments.data, arguments.split, arguments.options))


def objects_of(data: str, split: str, options: dict[str, Any]) -> Any:
    """A split of a data set of boxes, without its photographs."""
    from longtail.datasets import open_dataset
    from longtail.datasets.open import data_options

    # masks are read from the annotations where they are scored
    return open_dataset(data, split, labels_only=True, **{**data_options(options), "task": "detection"})
