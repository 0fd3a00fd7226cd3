"""Data sets of samples in memory: of torch, of Hugging Face's ``datasets``, or any sequence."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from longtail.classes_file import checked_palette, distinct_names
from longtail.datasets.base import ClassInfo, SegmentationDataset, SegmentationSample, label_type
from longtail.datasets.fingerprint import fingerprint_of
from longtail.datasets.palette import generate_palette
from longtail.datasets.sample_tensors import image_tensor, mask_tensor
from longtail.errors import DataError
from longtail.frequency.label_format import class_table
from longtail.frequency.label_image import class_histogram

if TYPE_CHECKING:
    from torchvision import tv_tensors

_MASKS = ("mask", "label", "annotation", "labels", "segmentation", "seg_map")
_RGB_MODES = ("L", "P", "RGB", "CMYK", "1")


class SegmentationSamples(SegmentationDataset):
    """Samples of any data set that has ``len`` and an index: a torch ``Dataset``, one of Hugging Face, a list.

    A sample is a mapping, or a pair of image and mask. The image is a PIL image, a uint8 array (h, w, 3) or a uint8 tensor
    (3, h, w); the mask a PIL image of one channel, or an integer array or tensor (h, w) of class ids.

    Args:
        samples: The data set.
        names: Class names, in the order of their ids.
        transform: Applied to the whole sample dict.
        image: Key of the image.
        mask: Key of the mask; None finds ``mask``, ``label``, ``annotation`` and the like.
        palette: Colours of the classes; generated where not given.
        ignore_index: Value of pixels without class.
        label_map: What stored values mean, see ``ImageLabelPairs``.
        reduce_zero_label: Masks store class i as i + 1, and 0 for no class.

    Raises:
        ConfigError: ``ignore_index`` is the id of a class, or the map has keys or values that it cannot have.
        DataError: The names are not distinct, or there is no sample.
    """

    def __init__(
        self,
        samples: Any,
        names: Sequence[str],
        transform: Callable[[SegmentationSample], SegmentationSample] | None = None,
        *,
        image: str = "image",
        mask: str | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        ignore_index: int = 255,
        label_map: Mapping[int | str, int] | None = None,
        reduce_zero_label: bool = False,
    ) -> None:
        found = distinct_names(names, "names")
        colours = generate_palette(len(found)) if palette is None else checked_palette(palette, len(found), "palette")
        if not len(samples):
            raise DataError("the data set holds no samples", fix="check its split")
        self.classes, self.ignore_index, self.transform = ClassInfo(found, colours), ignore_index, transform
        self._dtype = label_type(self.classes, ignore_index)
        self.samples = samples
        self._image = image
        self._mask = mask if mask is not None or not isinstance(samples[0], Mapping) else _found(samples[0])
        # a data set of columns decodes those alone that are asked for
        columns = getattr(samples, "select_columns", None)
        self._masks = samples if columns is None else columns([self._mask])
        self._table = class_table(len(found), ignore_index, label_map=label_map, reduce_zero_label=reduce_zero_label)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> SegmentationSample:
        stored = self.samples[index]
        image = rgb_pixels(self._part(stored, self._image, 0, index), index)
        ids = self._ids(self._part(stored, self._mask, 1, index), index)
        if tuple(image.shape[-2:]) != ids.shape:
            raise DataError(
                f"the mask of sample {index} is {ids.shape}, its image {tuple(image.shape[-2:])}", fix="give one size"
            )
        name = str(stored.get("name", index)) if isinstance(stored, Mapping) else str(index)
        sample: SegmentationSample = {"image": image, "mask": mask_tensor(ids), "name": name}
        return sample if self.transform is None else self.transform(sample)

    def mask(self, index: int) -> np.ndarray:
        """Class ids (h, w) of one sample.

        Raises:
            DataError: They are none.
        """
        return self._ids(self._part(self._masks[index], self._mask, 1, index), index)

    @property
    def fingerprint(self) -> str:
        """That of a Hugging Face data set with the classes; empty for others."""
        known = getattr(self.samples, "_fingerprint", "")
        table = None if self._table is None else self._table.tolist()
        return fingerprint_of((), known, self.classes.names, self.ignore_index, table) if known else ""

    def _part(self, stored: Any, key: str | None, place: int, index: int) -> Any:
        try:
            return stored[key] if isinstance(stored, Mapping) else stored[place]
        except (KeyError, IndexError, TypeError) as error:
            holds = ", ".join(map(str, stored)) if isinstance(stored, Mapping) else type(stored).__name__
            raise DataError(
                f"sample {index} has no {key or 'mask'}; it holds {holds}", fix="name the keys with image and mask"
            ) from error

    def _ids(self, mask: Any, index: int) -> np.ndarray:
        values = np.asarray(mask)
        if values.ndim == 3 and 1 in (values.shape[0], values.shape[-1]):
            values = values.squeeze(0 if values.shape[0] == 1 else -1)
        if values.ndim != 2 or values.dtype.kind not in "uib" or values.min(initial=0) < 0:
            raise DataError(
                f"the mask of sample {index} is {values.dtype} of shape {values.shape}", fix="give class ids (h, w)"
            )
        counts = np.bincount(values.ravel(), minlength=256)
        class_histogram(counts, self.classes.names, self.ignore_index, self._table, f"of sample {index}")
        return values.astype(self._dtype) if self._table is None else self._table.astype(self._dtype)[values]


def _found(sample: Mapping[str, Any]) -> str:
    key = next((key for key in _MASKS if key in sample), None)
    if key is None:
        raise DataError(f"a sample holds {', '.join(map(str, sample))}, none of them a mask", fix="name it with mask")
    return key


def rgb_pixels(image: Any, index: int) -> "tv_tensors.Image":
    """uint8 (3, h, w) RGB."""
    import torch

    if isinstance(image, Image.Image):
        if image.mode not in _RGB_MODES:
            raise DataError(f"the image of sample {index} is of kind {image.mode}", fix="convert it to RGB")
        image = np.array(image.convert("RGB"))
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0) if image.ndim == 3 else image))
    if not isinstance(image, torch.Tensor) or image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
        kind = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, torch.Tensor) else type(image).__name__
        raise DataError(
            f"the image of sample {index} is {kind}", fix="give uint8 RGB: an array (h, w, 3) or tensor (3, h, w)"
        )
    return image_tensor(image)
