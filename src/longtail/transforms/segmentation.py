"""Transforms of an image together with its label map.

All randomness comes from torch's global generator.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from longtail.errors import ConfigError
from longtail.transforms.photometric import DistortAndNormalise, PhotometricDistortion

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_TRIES = 10
_PIXELS_LOOKED_AT = 65_536


def segmentation_train(
    crop: tuple[int, int],
    scale: tuple[float, float] = (0.5, 2.0),
    cat_max_ratio: float = 0.75,
    *,
    short_side: int | None = None,
    max_side: int | None = None,
    flip: float = 0.5,
    photometric: bool = True,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    ignore_index: int = 255,
) -> v2.Compose:
    """The training transforms of both papers' field: scale, crop, flip, colours, normalise, pad.

    Args:
        crop: (h, w) of every sample that comes out.
        scale: Smallest and largest random scale.
        cat_max_ratio: A crop in which one class has a larger share is drawn again, up to ten times; 1 turns it off.
        short_side: Side that the scale 1 stands for (ADE20K: 512); None for the image's own size.
        max_side: Upper limit of the longer side at scale 1 (ADE20K: 2048).
        flip: Probability of a horizontal flip.
        photometric: Whether to distort colours.
        mean: Of the normalisation, RGB in 0 … 1.
        std: The same.
        ignore_index: Fills the label map where the image is padded; the image is padded with its mean colour.

    Returns:
        Sample dict -> sample dict with ``image`` float32 (3, h, w) normalised and ``mask`` (h, w).

    Source: MEDOE §A.2; SPEC M7; the recipe is mmsegmentation's.
    """
    steps: list[v2.Transform] = [
        RandomScaledCrop(crop, scale, cat_max_ratio, short_side, max_side, ignore_index),
        v2.RandomHorizontalFlip(flip),
        *([DistortAndNormalise(PhotometricDistortion(), mean, std)] if photometric else normalised(mean, std)),
        PadToSize(crop, ignore_index),
    ]
    return v2.Compose(steps)


def segmentation_eval(
    short_side: int | None = None,
    max_side: int | None = None,
    size: Sequence[int] | None = None,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> v2.Compose:
    """Evaluation: the image at full size, or resized; the label map keeps its size, at which it is scored.

    Args:
        short_side: Resize so that the shorter side has this length, keeping the ratio (ADE20K: 512).
        max_side: Upper limit of the longer side (ADE20K: 2048).
        size: Resize to exactly (h, w) instead.
        mean: Of the normalisation, RGB in 0 … 1.
        std: The same.

    Returns:
        Sample dict -> sample dict with ``image`` float32 normalised, and ``original_size`` (h, w) before resizing.

    Source: SPEC M8.
    """
    return v2.Compose(
        [
            RecordSize(),
            ResizeImage(short_side, max_side, size),
            *normalised(mean, std),
        ]
    )


def normalisation(
    bands: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> dict[str, list[float]]:
    """Mean and standard deviation of every band, as arguments of the transforms.

    Args:
        bands: Number of bands.
        mean: Of values in 0 … 1; ImageNet's where not given, and its mean over the colours for other bands than three.
        std: The same.

    Raises:
        ConfigError: There are not as many values as bands.
    """
    found = {}
    for name, given, usual in (("mean", mean, IMAGENET_MEAN), ("std", std, IMAGENET_STD)):
        values = given if given is not None else usual if bands == len(usual) else [sum(usual) / len(usual)] * bands
        if len(values) != bands:
            raise ConfigError(
                f"{name} has {len(values)} values for {bands} bands",
                fix="give one for every band; `longtail count --images` prints those of the data",
            )
        found[name] = [float(value) for value in values]
    return found


def normalised(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
    """Steps from bytes, or float32 in 0 … 1, to normalised float32; ``mean`` and ``std`` of every band in 0 … 1."""
    to_float = v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)
    return [to_float, v2.Normalize(list(mean), list(std))]


class FocusClass(int):
    """Class that a sample was drawn for, under any key of the sample dict: its crop should show it."""


class RandomScaledCrop(v2.Transform):
    """Scale by a random factor and cut a random crop, in one step: only the pixels of the crop are resized.

    Where the scaled image is smaller than the crop, all of it along that axis is kept, unpadded. A sample with a
    ``FocusClass`` that its label map shows is cut around a random pixel of that class, whatever fills the rest.

    Args:
        crop: (h, w) of the crop.
        scale: Smallest and largest factor.
        cat_max_ratio: Largest share of one class among the labelled pixels of the crop; else another crop is tried.
        short_side: Side that factor 1 stands for; None for the image's own size.
        max_side: Upper limit of the longer side at factor 1.
        ignore_index: Label value that counts for no class.

    Source: mmsegmentation's RandomResize and RandomCrop. The share is taken on a grid of at most 65,536 pixels.
    """

    _transformed_types = (tv_tensors.Image, tv_tensors.Mask, FocusClass)

    def __init__(
        self,
        crop: tuple[int, int],
        scale: tuple[float, float] = (0.5, 2.0),
        cat_max_ratio: float = 0.75,
        short_side: int | None = None,
        max_side: int | None = None,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        if min(crop) < 1 or not 0 < scale[0] <= scale[1] or not 0 < cat_max_ratio <= 1:
            raise ConfigError(
                f"crop = {crop}, scale = {scale}, cat_max_ratio = {cat_max_ratio}",
                fix="give a crop of at least one pixel, scales 0 < low <= high and a share in (0, 1]",
            )
        self.crop, self.scale, self.cat_max_ratio = (int(crop[0]), int(crop[1])), scale, cat_max_ratio
        self.short_side, self.max_side, self.ignore_index = short_side, max_side, ignore_index

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Window of the source image and the size that it is resized to."""
        masks = [x for x in flat_inputs if isinstance(x, tv_tensors.Mask)]
        size = _size(flat_inputs)
        factor = keep_ratio(size, self.short_side, self.max_side)
        factor *= self.scale[0] + (self.scale[1] - self.scale[0]) * float(torch.rand(()))
        scaled = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
        target = (min(self.crop[0], scaled[0]), min(self.crop[1], scaled[1]))
        focus = next((x for x in flat_inputs if isinstance(x, FocusClass)), None)
        if focus is not None and masks and len(shown := (masks[0].as_subclass(Tensor) == focus).nonzero()):
            pixel = shown[int(torch.randint(len(shown), ()))][-2:].tolist()
            window = [_window(size[i], scaled[i], target[i], around=pixel[i]) for i in (0, 1)]
            return {"rows": window[0], "columns": window[1], "size": target}
        for _ in range(_TRIES if masks and self.cat_max_ratio < 1 else 1):
            window = [_window(size[i], scaled[i], target[i]) for i in (0, 1)]
            if not masks or self._is_mixed(masks[0][..., window[0], window[1]]):
                break
        return {"rows": window[0], "columns": window[1], "size": target}

    def _is_mixed(self, labels: Tensor) -> bool:
        step = max(1, round((labels.numel() / _PIXELS_LOOKED_AT) ** 0.5))
        seen = labels.as_subclass(Tensor)[..., ::step, ::step].flatten()
        counts = torch.bincount(seen, minlength=self.ignore_index + 1)
        counts[self.ignore_index] = 0
        return bool((counts > 0).sum() > 1 and counts.max() < self.cat_max_ratio * counts.sum())

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut and resize: the image bilinearly, antialiased; the label map to the nearest label."""
        if isinstance(inpt, FocusClass):
            return inpt
        cut = inpt[..., params["rows"], params["columns"]]
        if isinstance(inpt, tv_tensors.Mask):
            return tv_tensors.wrap(nearest_labels(cut, params["size"]), like=inpt)
        return tv_tensors.wrap(F.resize_image(cut.as_subclass(Tensor), list(params["size"]), antialias=True), like=inpt)


def _window(source: int, scaled: int, length: int, around: int | None = None) -> slice:
    """Random stretch of ``length`` of ``scaled`` pixels, in source pixels; with a source pixel in it, if one is given."""
    low, high = 0, scaled - length
    if around is not None:
        place = min(scaled - 1, (2 * around + 1) * scaled // (2 * source))
        low, high = max(low, place - length + 1), min(high, place)
    start = low + int(torch.randint(high - low + 1, ()))
    begin = start * source // scaled
    return slice(begin, max(begin + 1, min(source, -(-(start + length) * source // scaled))))


def nearest_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (..., h, w) resized to the nearest pixel centre; any dtype.

    (``nearest`` of torch looks at corners instead and shifts labels by half a pixel against a resized image.)
    """
    height, width = labels.shape[-2:]
    rows, columns = _nearest(height, size[0]), _nearest(width, size[1])
    values = labels.as_subclass(Tensor)
    if values.device.type != "cpu":
        return values[..., rows.to(values.device), :][..., columns.to(values.device)]
    # numpy takes along an axis ten times faster than torch; columns while there are fewest rows
    array = values.numpy()
    if size[0] < height:
        return torch.from_numpy(array.take(rows.numpy(), axis=-2).take(columns.numpy(), axis=-1))
    return torch.from_numpy(array.take(columns.numpy(), axis=-1).take(rows.numpy(), axis=-2))


def _nearest(old: int, new: int) -> Tensor:
    """Pixel of an axis of ``old`` pixels under the centre of each of ``new`` pixels."""
    return (torch.arange(new) * 2 + 1) * old // (2 * new)


def keep_ratio(size: tuple[int, int], short_side: int | None, max_side: int | None) -> float:
    """Factor that brings the shorter side to ``short_side``, the longer one to ``max_side`` at most."""
    factor = 1.0 if short_side is None else short_side / min(size)
    return factor if max_side is None else min(factor, max_side / max(size))


def _size(flat_inputs: list[Any]) -> tuple[int, int]:
    for x in flat_inputs:
        if isinstance(x, tv_tensors.Image | tv_tensors.Mask):
            return int(x.shape[-2]), int(x.shape[-1])
    raise ConfigError("a sample without an image or label map of tv_tensors", fix="use tv_tensors.Image and Mask")


class PadToSize(v2.Transform):
    """Pad at the bottom and right: normalised images with 0, which is the mean colour, label maps with ``ignore_index``.

    Args:
        size: Smallest (h, w) that comes out; larger samples stay as they are.
        ignore_index: Fill of label maps.
    """

    _transformed_types = (tv_tensors.Image, tv_tensors.Mask)

    def __init__(self, size: tuple[int, int], ignore_index: int = 255) -> None:
        super().__init__()
        self.size, self.ignore_index = size, ignore_index

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Pad one image or label map."""
        below, right = (max(0, want - have) for want, have in zip(self.size, inpt.shape[-2:], strict=True))
        if not (below or right):
            return inpt
        fill = self.ignore_index if isinstance(inpt, tv_tensors.Mask) else 0
        padded = torch.nn.functional.pad(inpt.as_subclass(Tensor), (0, right, 0, below), value=fill)
        return tv_tensors.wrap(padded, like=inpt)


class ResizeImage(v2.Transform):
    """Resize the image alone, bilinearly and antialiased.

    Args:
        short_side: Length of the shorter side, keeping the ratio.
        max_side: Upper limit of the longer side.
        size: Exactly (h, w) instead.
    """

    _transformed_types = (tv_tensors.Image,)

    def __init__(
        self, short_side: int | None = None, max_side: int | None = None, size: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        if size is not None and (short_side is not None or max_side is not None):
            raise ConfigError(f"size = {size} and short_side or max_side", fix="give one or the other")
        self.short_side, self.max_side, self.size = short_side, max_side, size

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize one image."""
        height, width = inpt.shape[-2:]
        factor = keep_ratio((height, width), self.short_side, self.max_side)
        size = self.size or (max(1, round(height * factor)), max(1, round(width * factor)))
        if tuple(size) == (height, width):
            return inpt
        return tv_tensors.wrap(F.resize_image(inpt.as_subclass(Tensor), list(size), antialias=True), like=inpt)


class RecordSize(v2.Transform):
    """Note the image's (h, w) under ``original_size``."""

    def forward(self, *inputs: Any) -> Any:
        """Take and give one sample dict."""
        (sample,) = inputs
        return {**sample, "original_size": _size([sample["image"]])}
