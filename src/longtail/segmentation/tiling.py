"""Sliding-window inference: large images in pieces, overlaps averaged."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from longtail.errors import ConfigError
from longtail.segmentation.method import ExpertMaps, SegmentationMethod
from longtail.shapes import ClassMaps, Images


def expert_maps(
    method: SegmentationMethod, images: Images, window: Sequence[int] | None = None, stride: Sequence[int] | None = None
) -> ExpertMaps:
    """Experts' maps of whole images, or their logits averaged over sliding windows.

    Args:
        method: In evaluation mode.
        images: Normalised images of one size.
        window: Height and width of the crops; None for whole images.
        stride: Distance of neighbouring crops, two thirds of the window by default.

    Raises:
        ConfigError: The method's ensemble reads features, which windows do not give.
    """
    if window is None:
        return method.expert_maps(images)

    def crop_logits(crop: Tensor) -> Tensor:
        maps = method.expert_maps(crop)
        if maps.features is not None:
            raise ConfigError("sliding windows give no features to the ensemble", fix="read whole images")
        return maps.logits.transpose(0, 1).flatten(1, 2)  # (n, experts x logits, h, w)

    step = stride or [max(1, side * 2 // 3) for side in window]
    logits = sliding_window(crop_logits, images, list(window), list(step))
    return ExpertMaps(logits.unflatten(1, (-1, method.num_logits)).transpose(0, 1))


def sliding_window(
    predict: Callable[[Tensor], Tensor], image: Images, window: int | Sequence[int], stride: int | Sequence[int]
) -> ClassMaps:
    """Predict an image window by window and average where windows overlap.

    The last window of a row or column is moved back inside the image, and a window larger than the image shrinks to
    it, so that no padding is ever predicted; a window as large as the image gives ``predict(image)``.

    Args:
        predict: Crop (n, 3, height, width) -> logits or probabilities (n, classes, height, width).
        image: Normalised images of one size.
        window: Height and width of the crops in pixels, or one number for both.
        stride: Distance of neighbouring crops in pixels, at most the window.

    Returns:
        The mean over all windows that hold a pixel, float32 where the prediction is of lower precision.

    Raises:
        ConfigError: The stride is not between 1 and the window, so that pixels would be left out.

    Source: the sliding test mode of the SegFormer recipe (window 1024, stride 768).
    """
    window, stride = _pair(window), _pair(stride)
    if not all(1 <= s <= w for s, w in zip(stride, window, strict=True)):
        raise ConfigError(f"stride {stride} for windows of {window}", fix="choose a stride from 1 to the window's size")
    height, width = image.shape[-2:]
    tops, lefts = (_starts(side, w, s) for side, w, s in zip((height, width), window, stride, strict=True))
    if len(tops) == len(lefts) == 1:
        return predict(image)
    total, counts = None, torch.zeros(height, width, device=image.device)
    for top in tops:
        for left in lefts:
            rows, columns = slice(top, top + window[0]), slice(left, left + window[1])
            crop = predict(image[..., rows, columns])
            if total is None:
                precision = torch.promote_types(crop.dtype, torch.float32)
                total = crop.new_zeros(*crop.shape[:2], height, width, dtype=precision)
            total[..., rows, columns] += crop
            counts[rows, columns] += 1
    assert total is not None
    return total / counts.to(total)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if len(size) != 2:
        raise ConfigError(f"size {tuple(size)} of a window", fix="give a height and a width, or one number for both")
    return int(size[0]), int(size[1])


def _starts(side: int, window: int, stride: int) -> list[int]:
    """First pixel of each window along a side: every ``stride``, the last one flush with the border."""
    last = max(side - window, 0)
    return [*range(0, last, stride), last]


def tiled(
    predict: Callable[[Tensor], Tensor], image: Float[Tensor, "n bands h w"], window: Sequence[int]
) -> Shaped[Tensor, "n *channels h w"]:
    """Predict an image window by window; each pixel is of the window whose middle is nearest. Nothing is averaged, so that
    labels can be predicted, and no map of all classes is made.

    Args:
        predict: Crop (n, bands, height, width) -> labels (n, height, width), or maps (n, channels, height, width).
        image: Normalised images of one size.
        window: Height and width of the crops; neighbours overlap by a quarter.
    """
    rows, columns = (_parts(image.shape[axis], window[axis], max(1, window[axis] * 3 // 4)) for axis in (-2, -1))
    strips = []
    for top, first, last in rows:
        parts = []
        for left, begin, end in columns:
            found = predict(image[..., top : top + window[0], left : left + window[1]])
            parts.append(found[..., first - top : last - top, begin - left : end - left])
        strips.append(torch.cat(parts, dim=-1))
    return torch.cat(strips, dim=-2)


def _parts(side: int, window: int, stride: int) -> list[tuple[int, int, int]]:
    """First pixel of each window along a side, and the first pixel and the end of its own part."""
    starts = _starts(side, window, stride)
    cuts = [0, *((a + window + b) // 2 for a, b in pairwise(starts)), side]
    return [(start, *part) for start, part in zip(starts, pairwise(cuts), strict=True)]
