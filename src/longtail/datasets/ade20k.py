"""``ADE20K``: scene parsing, 150 classes."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from longtail.datasets.base import ClassInfo, SegmentationSample
from longtail.datasets.image_files import pair_files
from longtail.datasets.pairs import ImageLabelPairs
from longtail.errors import DataError

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

    Raises:
        DataError: A folder is missing or empty, or an image has no label.

    Source: SPEC M2.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transform: Callable[[SegmentationSample], SegmentationSample] | None = None,
    ) -> None:
        root = Path(root).expanduser()
        if (root / "ADEChallengeData2016").is_dir():
            root = root / "ADEChallengeData2016"
        folder = _SPLITS.get(split, split)
        if folder not in _SPLITS.values():
            raise DataError(f"ADE20K has no labelled split {split!r}", fix='choose "train" or "val"')
        pairs = pair_files(root / "images" / folder, root / "annotations" / folder)
        super().__init__(pairs, ade20k_classes(), label_table=reduce_zero_label(_NUM_CLASSES), transform=transform)
        self.root, self.split = root, split


def reduce_zero_label(num_classes: int, ignore_index: int = 255) -> np.ndarray:
    """int32 (256,) table for labels that start at 1: 0 is ignored, v becomes v - 1; others must not occur (-1)."""
    table = np.full(256, -1, dtype=np.int32)
    table[0] = ignore_index
    table[1 : num_classes + 1] = np.arange(num_classes)
    return table


def ade20k_classes() -> ClassInfo:
    """The 150 names (first synonym) and their customary colours."""
    with Path(__file__).with_name("ade20k_classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return ClassInfo(
        tuple(row["name"] for row in rows), tuple((int(r["red"]), int(r["green"]), int(r["blue"])) for r in rows)
    )
