"""The contracts of data sets."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, Protocol, TypedDict, runtime_checkable

import numpy as np

from longtail.datasets.photographs import PhotoFormat
from longtail.errors import ConfigError
from longtail.frequency.label_format import PLAIN, LabelFormat

if TYPE_CHECKING:
    from torch import Tensor
    from torchvision import tv_tensors


@runtime_checkable
class Samples(Protocol):
    """Samples by index: a data set of this library, of torch, or a list."""

    def __getitem__(self, index: int, /) -> Any: ...


class SegmentationSample(TypedDict):
    """One image with its label map.

    Attributes:
        image: uint8 (3, h, w), RGB; of other bands and types as ``PhotoFormat`` reads them.
        mask: (h, w), class ids and ``ignore_index``; uint8 for up to 255 classes, else int32.
        name: File stem or index: names predictions and errors.
    """

    image: "tv_tensors.Image"
    mask: "tv_tensors.Mask"
    name: str
    original_size: NotRequired[tuple[int, int]]


@dataclass(frozen=True)
class ClassInfo:
    """Names and colours of the classes.

    Args:
        names: C names, in the order of the ids.
        palette: (C, 3) uint8 colours for overlays; generated where a data set has none.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    @property
    def num_classes(self) -> int:
        """Number of classes, C."""
        return len(self.names)


def label_type(classes: ClassInfo, ignore_index: int) -> type[np.generic]:
    """Type of label maps: uint8 for up to 255 classes, else int32.

    Raises:
        ConfigError: ``ignore_index`` is negative or the id of a class.
    """
    if ignore_index < classes.num_classes:
        what = "negative" if ignore_index < 0 else f"the id of class {classes.names[ignore_index]!r}"
        raise ConfigError(
            f"ignore_index {ignore_index} is {what} ({classes.num_classes} classes)",
            fix="choose one above all class ids, e.g. 255, or 65535 for 16-bit labels",
        )
    return np.uint8 if classes.num_classes <= 255 and ignore_index <= 255 else np.int32


class ImageDataset(ABC):
    """Images with labels of either task.

    ``transform``, where given, is applied to the whole sample dict in ``__getitem__`` (torchvision v2 transforms
    take it unchanged).
    """

    classes: ClassInfo
    transform: Callable[[Any], Any] | None = None
    #: How image files are read; None for data sets that read images in another way.
    photos: PhotoFormat | None = None
    #: Remark on how these samples were chosen or read, for the training log.
    note: str = ""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """Changes when the labels change: the key of cached counts, and part of ``results.json``."""
        return ""


class SegmentationDataset(ImageDataset):
    """Images with label maps; ``label_files`` and ``label_format`` let the frequency pass read labels without images."""

    ignore_index: int = 255

    @abstractmethod
    def __getitem__(self, index: int) -> SegmentationSample: ...

    @property
    def label_files(self) -> list[Path] | None:
        """Label image of every sample in order; None where labels are not image files."""
        return None

    @property
    def label_format(self) -> LabelFormat:
        """Meaning of the values or colours in the label files."""
        return PLAIN

    def mask(self, index: int) -> np.ndarray:
        """Class ids (h, w) of one sample, before any transform; for data sets without label files."""
        return np.asarray(self[index]["mask"])


class DetectionSample(TypedDict):
    """One image with its objects.

    Attributes:
        image: uint8 (3, h, w), RGB; of other bands and types as ``PhotoFormat`` reads them.
        boxes: float32 (n, 4), xyxy in pixels of the image.
        labels: int64 (n,), class ids 0 … C-1.
        masks: bool (n, h, w); absent where the annotations have boxes only.
        crowd: bool (n,), regions of many objects: neither targets nor false positives.
        semantic: (h, w), class ids of a semantic branch, which need not be those of the objects, and 255 where none is
            known; only where asked for.
        image_id: Id of the image in its annotation file.
        name: File stem or index: names predictions and errors.
    """

    image: "tv_tensors.Image"
    boxes: "tv_tensors.BoundingBoxes"
    labels: "Tensor"
    masks: NotRequired["tv_tensors.Mask"]
    crowd: "Tensor"
    semantic: NotRequired["tv_tensors.Mask"]
    image_id: int
    name: str


class DetectionDataset(ImageDataset):
    """Images with objects."""

    @abstractmethod
    def __getitem__(self, index: int) -> DetectionSample: ...

    @property
    @abstractmethod
    def image_labels(self) -> list[np.ndarray]:
        """Class id of every object of every image, in order, without decoding images: feeds counts and samplers."""
