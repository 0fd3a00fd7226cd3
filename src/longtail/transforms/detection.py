"""Transforms of an image together with its boxes and instance masks.

All randomness comes from torch's global generator. Boxes, labels, masks and the crowd flags stay aligned.
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
from longtail.transforms.segmentation import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RecordSize,
    keep_ratio,
    nearest_labels,
    normalised,
)

SHORT_SIDES = (640, 672, 704, 736, 768, 800)
_PER_OBJECT = ("boxes", "labels", "masks", "crowd")


def detection_train(
    short_sides: Sequence[int] = SHORT_SIDES,
    max_side: int | None = 1333,
    flip: float = 0.5,
    *,
    jitter: tuple[float, float] | None = None,
    photometric: bool = False,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> v2.Compose:
    """Multi-scale training: resize to a random shorter side, flip, normalise.

    Args:
        short_sides: Lengths of the shorter side to draw from.
        max_side: Upper limit of the longer side.
        flip: Probability of a horizontal flip.
        jitter: Smallest and largest factor of large-scale jitter: instead of a drawn shorter side the image fits into a
            square of the longest of them, times a random factor, and is cut to that square.
        photometric: Whether to distort colours.
        mean: Of the normalisation, RGB in 0 … 1.
        std: The same.

    Returns:
        Sample dict -> sample dict with ``image`` float32 (3, h, w) normalised, ``original_size`` (h, w), and the
        boxes and masks of the objects that are still at least a pixel wide and high.

    Source: MEC §A; SPEC C13; large-scale jitter: Ghiasi et al. 2021.
    """
    resized: list[v2.Transform] = [ResizeShortSide(short_sides, max_side)]
    if jitter is not None:
        resized = [ScaleJitter(max(short_sides), jitter), RandomCut(max(short_sides))]
    steps: list[v2.Transform] = [
        RecordSize(),
        *resized,
        v2.RandomHorizontalFlip(flip),
        *([DistortAndNormalise(PhotometricDistortion(), mean, std)] if photometric else normalised(mean, std)),
        DropVanished(),
    ]
    return v2.Compose(steps)


def detection_eval(
    short_side: int = 800,
    max_side: int | None = 1333,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> v2.Compose:
    """Evaluation: resize to one shorter side, normalise. Objects are resized along and all kept.

    Returns:
        Sample dict -> sample dict with ``image`` float32 normalised and ``original_size`` (h, w), the size that
        detections are scaled back to.

    Source: SPEC C13.
    """
    return v2.Compose([RecordSize(), ResizeShortSide((short_side,), max_side), *normalised(mean, std)])


class ResizeShortSide(v2.Transform):
    """Resize image, boxes and masks so that the shorter side has one of some lengths, keeping the ratio.

    Args:
        short_sides: Lengths to draw from, each as likely.
        max_side: Upper limit of the longer side; None for no limit.
    """

    _transformed_types = (tv_tensors.Image, tv_tensors.Mask, tv_tensors.BoundingBoxes)

    def __init__(self, short_sides: Sequence[int], max_side: int | None = None) -> None:
        super().__init__()
        if not short_sides or min(short_sides) < 1:
            raise ConfigError(f"short_sides = {tuple(short_sides)}", fix="give at least one length >= 1")
        self.short_sides, self.max_side = tuple(short_sides), max_side

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The size of one image."""
        (image,) = (x for x in flat_inputs if isinstance(x, tv_tensors.Image))
        height, width = image.shape[-2:]
        # nothing is drawn where there is nothing to choose: evaluation leaves the generator alone
        choice = int(torch.randint(len(self.short_sides), ())) if len(self.short_sides) > 1 else 0
        short_side = self.short_sides[choice]
        factor = keep_ratio((height, width), short_side, self.max_side)
        return {"size": (max(1, round(height * factor)), max(1, round(width * factor)))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize: the image bilinearly, antialiased; masks to the nearest pixel; boxes exactly."""
        size = params["size"]
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            return F.resize(inpt, list(size))
        if tuple(inpt.shape[-2:]) == size:
            return inpt
        if isinstance(inpt, tv_tensors.Mask):
            return tv_tensors.wrap(nearest_labels(inpt, size), like=inpt)
        return tv_tensors.wrap(F.resize_image(inpt.as_subclass(Tensor), list(size), antialias=True), like=inpt)


class ScaleJitter(ResizeShortSide):
    """Resize image, boxes and masks so that they fit into a square, times a random factor.

    Args:
        side: Side of the square.
        scale: Smallest and largest factor.
    """

    def __init__(self, side: int, scale: tuple[float, float]) -> None:
        super().__init__((side,))
        if not 0 < scale[0] <= scale[1]:
            raise ConfigError(f"jitter = {tuple(scale)}", fix="give the smallest factor > 0, then the largest")
        self.side, self.scale = side, scale

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The size of one image."""
        (image,) = (x for x in flat_inputs if isinstance(x, tv_tensors.Image))
        height, width = image.shape[-2:]
        drawn = self.scale[0] + (self.scale[1] - self.scale[0]) * float(torch.rand(()))
        factor = drawn * self.side / max(height, width)
        return {"size": (max(1, round(height * factor)), max(1, round(width * factor)))}


class RandomCut(v2.Transform):
    """Cut image, boxes and masks to a square at a random place; smaller images stay as they are.

    Args:
        side: Side of the square.
    """

    _transformed_types = (tv_tensors.Image, tv_tensors.Mask, tv_tensors.BoundingBoxes)

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The window of one image."""
        (image,) = (x for x in flat_inputs if isinstance(x, tv_tensors.Image))
        sizes = [min(self.side, whole) for whole in image.shape[-2:]]
        starts = [int(torch.randint(w - s + 1, ())) for w, s in zip(image.shape[-2:], sizes, strict=True)]
        return {"top": starts[0], "left": starts[1], "height": sizes[0], "width": sizes[1]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut; boxes end at the border."""
        return F.crop(inpt, **params)


class DropVanished(v2.Transform):
    """Take away objects that a resize or crop left without extent, from boxes, labels, masks and crowd flags alike.

    A box stays if it is a pixel wide and high. (``SanitizeBoundingBoxes`` of torchvision returns masks as plain tensors,
    which later transforms skip.)
    """

    def forward(self, *inputs: Any) -> Any:
        """Take and give one sample dict."""
        (sample,) = inputs
        boxes = sample["boxes"].as_subclass(Tensor)
        keep = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(dim=1)
        if keep.all():
            return sample
        return {key: _select(value, keep) if key in _PER_OBJECT else value for key, value in sample.items()}


def _select(value: Tensor, keep: Tensor) -> Tensor:
    kept = value.as_subclass(Tensor)[keep]
    return tv_tensors.wrap(kept, like=value) if isinstance(value, tv_tensors.TVTensor) else kept
