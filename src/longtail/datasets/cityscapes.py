"""``Cityscapes``: urban scenes, 19 classes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from longtail.datasets.base import ClassInfo, SegmentationSample
from longtail.datasets.pairing import IMAGE_SUFFIXES, pair_folders
from longtail.datasets.pairs import ImageLabelPairs
from longtail.errors import ConfigError, DataError
from longtail.folders import files_by_name
from longtail.frequency.label_format import PLAIN, LabelFormat

# Class, label id of the files, colour; in the order of the train ids.
_CLASSES = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
_LAST_LABEL_ID = 33


class Cityscapes(ImageLabelPairs):
    """Cityscapes with its 19 evaluated classes.

    Layout::

        ROOT/leftImg8bit/{split}/{city}/*_leftImg8bit.png
        ROOT/gtFine/{split}/{city}/*_gtFine_labelIds.png          (or *_labelTrainIds.png)
        ROOT/gtCoarse/{split}/{city}/*_gtCoarse_labelIds.png

    Args:
        root: The folder.
        split: "train", "val" or "test"; for coarse labels also "train_extra".
        transform: Applied to the whole sample dict.
        annotation: "fine", or the polygons of "coarse".
        labels: Which files to read: "labelIds" (34 ids, mapped to the 19 classes), "labelTrainIds", or None for
            those that are there.
        label_map: See ``ImageLabelPairs``.

    Raises:
        DataError: A folder is missing or empty, or an image has no label.

    Source: SPEC M1.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transform: Callable[[SegmentationSample], SegmentationSample] | None = None,
        *,
        annotation: Literal["fine", "coarse"] = "fine",
        labels: Literal["labelIds", "labelTrainIds"] | None = None,
        label_map: Mapping[int | str, int] | None = None,
    ) -> None:
        if annotation not in ("fine", "coarse"):
            raise ConfigError(f"annotation {annotation!r} is unknown", fix='choose "fine" or "coarse"')
        root = Path(root).expanduser()
        source = f"gt{annotation.capitalize()}"
        folder = root / source / split
        if labels is None:
            labels = _labels_at_hand(folder, source)
        pairs = pair_folders(root / "leftImg8bit" / split, folder, "_leftImg8bit", f"_{source}_{labels}")
        label_format = LabelFormat(label_id_table()) if labels == "labelIds" else PLAIN
        classes = ClassInfo(tuple(c[0] for c in _CLASSES), tuple(c[2] for c in _CLASSES))
        super().__init__(pairs, classes, label_format=label_format, label_map=label_map, transform=transform)
        self.root, self.split = root, split


def label_id_table() -> np.ndarray:
    """int32 (256,): class id of every label id; 255 for those that are not evaluated, -1 for what must not occur."""
    table = np.full(256, -1, dtype=np.int32)
    table[: _LAST_LABEL_ID + 1] = table[255] = 255
    table[[label_id for _, label_id, _ in _CLASSES]] = np.arange(len(_CLASSES))
    return table


def _labels_at_hand(folder: Path, source: str) -> Literal["labelIds", "labelTrainIds"]:
    if files_by_name(folder, IMAGE_SUFFIXES, "labels", f"_{source}_labelIds"):
        return "labelIds"
    if files_by_name(folder, IMAGE_SUFFIXES, "labels", f"_{source}_labelTrainIds"):
        return "labelTrainIds"
    raise DataError(
        f"no *_{source}_labelIds.png or *_{source}_labelTrainIds.png in {folder}", fix="check the path and the split"
    )
