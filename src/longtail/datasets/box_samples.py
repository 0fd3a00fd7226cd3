"""Images with boxes from data sets of samples: of torch, of Hugging Face's ``datasets``, or any sequence."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from longtail.classes_file import distinct_names
from longtail.datasets.base import ClassInfo, DetectionDataset, DetectionSample
from longtail.datasets.fingerprint import fingerprint_of
from longtail.datasets.palette import generate_palette
from longtail.datasets.sample_tensors import box_tensor, mask_tensor, plain_tensor
from longtail.datasets.samples import rgb_pixels
from longtail.errors import ConfigError, DataError

BoxFormat = Literal["xyxy", "xywh"]
_BOXES = ("boxes", "bbox", "bboxes")
#: Keys of the classes of a sample's objects.
LABEL_KEYS = ("labels", "category", "category_id", "label")
_FIX = "give boxes (n, 4) with labels (n,), as torchvision and Hugging Face do"


class BoxSamples(DetectionDataset):
    """Samples of any data set that has ``len`` and an index: a torch ``Dataset``, one of Hugging Face, a list.

    A sample is a mapping, or a pair of image and mapping as torchvision's detectors take it. The mapping, or its
    ``objects`` (Hugging Face), has ``boxes`` (n, 4) as x0, y0, x1, y1, or ``bbox`` as x, y, width, height, with
    ``labels`` or ``category`` (n,), and where known ``masks`` (n, h, w) and ``iscrowd`` (n,). The image is a PIL image,
    a uint8 array (h, w, 3) or a uint8 tensor (3, h, w).

    Args:
        samples: The data set.
        names: Class names, in the order of their labels.
        transform: Applied to the whole sample dict.
        box_format: What the four numbers of a box are; None tells it by the key, as above.
        first_label: Label of the first class: 1 where 0 is the background.

    Raises:
        DataError: The names are not distinct, or there is no sample.
    """

    def __init__(
        self,
        samples: Any,
        names: Sequence[str],
        transform: Callable[[DetectionSample], DetectionSample] | None = None,
        *,
        box_format: BoxFormat | None = None,
        first_label: int = 0,
    ) -> None:
        found = distinct_names(names, "names")
        if not len(samples):
            raise DataError("the data set holds no samples", fix="check its split")
        self.classes = ClassInfo(found, generate_palette(len(found)))
        self.samples, self.transform = samples, transform
        self._format, self._first = box_format, first_label
        # a data set of columns decodes those alone that are asked for
        columns = [name for name in getattr(samples, "column_names", ()) if name != "image"]
        self._targets = samples.select_columns(columns) if columns else samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> DetectionSample:
        stored = self.samples[index]
        image = rgb_pixels(_image(stored, index), index)
        size = (int(image.shape[-2]), int(image.shape[-1]))
        target = _target(stored, index)
        boxes, labels, kept = self._objects(target, index)
        limits = np.array([size[1], size[0]] * 2, dtype=np.float64)
        clipped = np.clip(boxes, 0, limits)
        if len(clipped) and (clipped[:, 2:] <= clipped[:, :2]).any():
            place = int((clipped[:, 2:] <= clipped[:, :2]).any(axis=1).argmax())
            raise DataError(
                f"box {boxes[place].tolist()} of sample {index} is outside of its image of {size[1]}x{size[0]} pixels",
                fix="give boxes in pixels; say with box_format whether they are xyxy or xywh",
            )
        crowd = np.asarray(target.get("iscrowd", np.zeros(len(kept))), dtype=bool)[kept]
        sample: DetectionSample = {
            "image": image,
            "boxes": box_tensor(clipped, size),
            "labels": plain_tensor(labels),
            "crowd": plain_tensor(crowd),
            "image_id": index,
            "name": str(target.get("name", index)),
        }
        if "masks" in target:
            masks = np.asarray(target["masks"], dtype=bool)
            if masks.shape != (len(kept), *size):
                raise DataError(f"masks of sample {index} are {masks.shape}", fix=f"give {(len(kept), *size)}")
            sample["masks"] = mask_tensor(masks[kept])
        return sample if self.transform is None else self.transform(sample)

    @cached_property
    def image_labels(self) -> list[np.ndarray]:
        """Class id of every object of every image, crowd regions left out; reads every sample once."""
        found = []
        for index in range(len(self)):
            target = _target(self._targets[index], index)
            _, labels, kept = self._objects(target, index)
            crowd = np.asarray(target.get("iscrowd", np.zeros(len(kept))), dtype=bool)[kept]
            found.append(labels[~crowd])
        return found

    @property
    def fingerprint(self) -> str:
        """Digest of the classes and of the labels of every image."""
        return fingerprint_of((), self.classes.names, [labels.tolist() for labels in self.image_labels])

    def _objects(self, target: Mapping[str, Any], index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (xyxy) and class ids of the objects with an area, and which of the sample's they are."""
        key = next((name for name in _BOXES if name in target), None)
        label = next((name for name in LABEL_KEYS if name in target), None)
        if key is None or label is None:
            raise DataError(f"sample {index} has no {'labels' if key else 'boxes'}, only {', '.join(target)}", fix=_FIX)
        try:
            boxes = np.asarray(target[key], dtype=np.float64)
            stored = np.asarray(target[label])
        except (TypeError, ValueError) as error:
            raise DataError(f"the objects of sample {index} are no numbers: {error}", fix=_FIX) from error
        boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
        if boxes.ndim != 2 or boxes.shape[1] != 4 or stored.size != len(boxes) or not np.isfinite(boxes).all():
            raise DataError(f"sample {index} has boxes {boxes.shape} and labels {stored.shape}", fix=_FIX)
        if stored.size and stored.dtype.kind not in "iu":
            raise DataError(f"labels of sample {index} are {stored.dtype}, no whole numbers", fix="give class numbers")
        labels = stored.reshape(-1).astype(np.int64) - self._first
        if labels.size and not (labels.min() >= 0 and labels.max() < self.classes.num_classes):
            raise DataError(
                f"sample {index} has the labels {sorted(set(stored.tolist()))}, but there are "
                f"{self.classes.num_classes} classes from {self._first} on",
                fix="name all classes; where 0 is the background, set first_label to 1",
            )
        if (self._format or ("xyxy" if key == "boxes" else "xywh")) == "xywh":
            boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        if (boxes[:, 2:] < boxes[:, :2]).any():
            raise DataError(f"a box of sample {index} ends before it begins", fix="set box_format to xyxy or xywh")
        kept: np.ndarray = np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        return boxes[kept], labels[kept], kept


def _image(stored: Any, index: int) -> Any:
    image = stored.get("image") if isinstance(stored, Mapping) else stored[0]
    if image is None:
        raise DataError(f"sample {index} has no image; it holds {', '.join(map(str, stored))}", fix="name it `image`")
    return image


def _target(stored: Any, index: int) -> Mapping[str, Any]:
    """The mapping with the boxes of a sample."""
    target = stored if isinstance(stored, Mapping) else stored[1]
    if isinstance(target, Mapping) and "objects" in target:
        objects = target["objects"]
        if isinstance(objects, Sequence):  # one mapping for each object
            objects = {
                key: [one[key] for one in objects] for key in (objects[0] if objects else (*_BOXES, *LABEL_KEYS))
            }
        target = {**{k: v for k, v in target.items() if k == "name"}, **objects}
    if not isinstance(target, Mapping):
        raise ConfigError(f"the target of sample {index} is a {type(target).__name__}", fix=_FIX)
    return target
