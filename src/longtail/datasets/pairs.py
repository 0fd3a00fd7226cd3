"""``ImageLabelPairs``: photographs with one label image each, the data set that the named ones build on."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torchvision import tv_tensors

from longtail.datasets.base import ClassInfo, SegmentationDataset, SegmentationSample
from longtail.datasets.image_files import fingerprint_of, read_image
from longtail.errors import ConfigError, DataError
from longtail.frequency.label_image import class_histogram, label_values, open_label, value_histogram


class ImageLabelPairs(SegmentationDataset):
    """Photographs with one single-channel label image each.

    Args:
        pairs: (name, image file, label file) of every sample.
        classes: Names and colours of the C classes.
        ignore_index: Value of pixels without class, C or above.
        label_table: (256,) class id of every stored value, ``ignore_index``, or -1 for values that must not
            occur; None where the stored values are the class ids.
        transform: Applied to the whole sample dict.

    Raises:
        ConfigError: ``ignore_index`` is negative or the id of a class.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, Path, Path]],
        classes: ClassInfo,
        *,
        ignore_index: int = 255,
        label_table: np.ndarray | None = None,
        transform: Callable[[SegmentationSample], SegmentationSample] | None = None,
    ) -> None:
        if ignore_index < classes.num_classes:
            what = "negative" if ignore_index < 0 else f"the id of class {classes.names[ignore_index]!r}"
            raise ConfigError(
                f"ignore_index {ignore_index} is {what} ({classes.num_classes} classes)",
                fix="choose one above all class ids, e.g. 255, or 65535 for 16-bit labels",
            )
        self.pairs = list(pairs)
        self.classes = classes
        self.ignore_index = ignore_index
        self.transform = transform
        self._table = label_table
        self._dtype = np.uint8 if classes.num_classes <= 255 and ignore_index <= 255 else np.int32

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> SegmentationSample:
        name, image_file, label_file = self.pairs[index]
        image, mask = read_image(image_file), self.mask(index)
        if tuple(image.shape[-2:]) != mask.shape:
            raise DataError(
                f"label {label_file} is {mask.shape[1]}x{mask.shape[0]}, its image {image_file} "
                f"{image.shape[-1]}x{image.shape[-2]} pixels",
                fix="give both the same size; a photograph is turned upright by its EXIF orientation first",
            )
        sample: SegmentationSample = {"image": image, "mask": tv_tensors.Mask(torch.from_numpy(mask)), "name": name}
        return sample if self.transform is None else self.transform(sample)

    def mask(self, index: int) -> np.ndarray:
        """Class ids (h, w) of one sample: uint8 for up to 255 classes, else int32.

        Raises:
            DataError: The label file is unreadable or holds a value that is neither a class nor ignored.
        """
        path = self.pairs[index][2]
        image = open_label(path)
        class_histogram(value_histogram(image, path), self.classes.names, self.ignore_index, self._table, path)
        values = label_values(image)
        return values.astype(self._dtype) if self._table is None else self._table.astype(self._dtype)[values]

    @property
    def label_files(self) -> list[Path]:
        return [label for _, _, label in self.pairs]

    @property
    def label_table(self) -> np.ndarray | None:
        return self._table

    @cached_property
    def fingerprint(self) -> str:
        table = None if self._table is None else self._table.tolist()
        return fingerprint_of(self.label_files, self.classes.names, self.ignore_index, table)
