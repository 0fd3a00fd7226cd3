"""The decoders as their papers write them: all maps brought to one size and concatenated before a convolution."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail.segmentation.models import deeplabv3plus, segformer
from longtail.segmentation.models.blocks import ConvNormAct


def resize_concat(maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """All maps, resampled to one size, concatenated."""
    return torch.cat([_resized(m, size) for m in maps], dim=1)


def _resized(values: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(values, tuple(size), mode="bilinear", align_corners=False)


def _projected(maps, projections, weights, size) -> Tensor:
    joined = resize_concat([projection(m) for m, projection in zip(maps, projections, strict=True)], size)
    return F.conv2d(joined, torch.cat(list(weights), dim=1))


@contextmanager
def as_written() -> Iterator[None]:
    """Run the decoders of this library without their shortcuts."""
    with ExitStack() as stack:
        plain = lambda self, maps, size: self(resize_concat(maps, size))  # noqa: E731
        stack.enter_context(patch.object(ConvNormAct, "of_resized", plain))
        stack.enter_context(patch.object(deeplabv3plus, "resize", _resized))
        stack.enter_context(patch.object(segformer, "convolve_projected", _projected))
        yield
