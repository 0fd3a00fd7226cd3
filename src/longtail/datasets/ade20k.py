"""``ADE20K``: scene parsing, 150 classes."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

from longtail.datasets.base import ClassInfo, SegmentationSample
from longtail.datasets.pairing import pair_folders
from longtail.datasets.pairs import ImageLabelPairs
from longtail.errors import DataError
from longtail.frequency.label_format import LabelFormat, class_table

_SPLITS = {"train": "training", "val": "validation"}
_NUM_CLASSES = 150


class ADE20K(ImageLabelPairs):
    """ADE20K's scene parsing benchmark (``ADEChallengeData2016``) with its 150 classes.

    Stored label 0 means "not labelled" and becomes 255; labels 1 … 150 become the classes 0 … 149.

    Layout::

        ROOT/images/{training,validation}/*.jpg
        ROOT/annotations/{training,validation}/*.png

    Args:
        root: The folder, or the one that holds ``ADEChallengeData2016``.
        split: "train" or "training", "val" or "validation".
        transform: Applied to the whole sample dict.
        label_map: See ``ImageLabelPairs``.

    Raises:
        DataError: A folder is missing or empty, or an image has no label.

    Source: SPEC M2.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transform: Callable[[SegmentationSample], SegmentationSample] | None = None,
        *,
        label_map: Mapping[int | str, int] | None = None,
    ) -> None:
        root = Path(root).expanduser()
        if (root / "ADEChallengeData2016").is_dir():
            root = root / "ADEChallengeData2016"
        folder = _SPLITS.get(split, split)
        if folder not in _SPLITS.values():
            raise DataError(f"ADE20K has no labelled split {split!r}", fix='choose "train" or "val"')
        pairs = pair_folders(root / "images" / folder, root / "annotations" / folder)
        labels = LabelFormat(class_table(_NUM_CLASSES, 255, reduce_zero_label=True))
        super().__init__(pairs, ade20k_classes(), label_format=labels, label_map=label_map, transform=transform)
        self.root, self.split = root, split


def ade20k_classes() -> ClassInfo:
    """The 150 names (first synonym) and their customary colours."""
    with Path(__file__).with_name("ade20k_classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return ClassInfo(
        tuple(row["name"] for row in rows), tuple((int(r["red"]), int(r["green"]), int(r["blue"])) for r in rows)
    )
