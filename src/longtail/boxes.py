"""Boxes as numbers: regression targets, refinement, overlap with crowd regions. Boxes are xyxy in pixels."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

#: Largest log-scale change of a side in one step: a box cannot grow more than 62.5-fold.
_MAX_LOG_SCALE = math.log(1000.0 / 16)
_SMALLEST_SIDE = 1e-6


class BoxCoder:
    """Box changes (dx, dy, dw, dh) relative to a proposal's centre and size, divided by standard deviations.

    Args:
        stds: The four deviations. Torchvision's ``weights`` are their inverses.

    Source: Faster R-CNN (Ren 2015), Eq. 2.
    """

    def __init__(self, stds: Sequence[float] = (0.1, 0.1, 0.2, 0.2)) -> None:
        self.stds = tuple(float(s) for s in stds)

    def encode(self, boxes: Float[Tensor, "n 4"], proposals: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
        """The change that turns each proposal into its box. Sides of length 0 are taken as tiny, never as NaN."""
        proposal_centre, proposal_size = _centre_and_size(proposals)
        centre, size = _centre_and_size(boxes)
        shift = (centre - proposal_centre) / proposal_size
        scale = (size / proposal_size).log()
        return torch.cat([shift, scale], dim=1) / boxes.new_tensor(self.stds)

    def decode(self, deltas: Float[Tensor, "n 4"], proposals: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
        """Apply changes to proposals, in float32 or better; inverse of ``encode``."""
        deltas = deltas.to(torch.promote_types(deltas.dtype, proposals.dtype))
        shift, scale = (deltas * deltas.new_tensor(self.stds)).split(2, dim=1)
        size = proposals[:, 2:] - proposals[:, :2]
        centre = proposals[:, :2] + 0.5 * size + shift * size
        half = 0.5 * scale.clamp(max=_MAX_LOG_SCALE).exp() * size
        return torch.cat([centre - half, centre + half], dim=1)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=_SMALLEST_SIDE)
    return boxes[:, :2] + 0.5 * size, size


def sides_at_least(boxes: Float[Tensor, "n 4"], side: float) -> Bool[Tensor, " n"]:
    """Whether both sides of each box are at least ``side`` pixels (False for NaN)."""
    return ((boxes[:, 2:] - boxes[:, :2]) >= side).all(dim=1)


def covered(boxes: Float[Tensor, "n 4"], regions: Float[Tensor, "m 4"]) -> Float[Tensor, " n"]:
    """Largest part of each box's own area that lies in one region; 0 where there is no region."""
    if len(regions) == 0:
        return boxes.new_zeros(len(boxes))
    low = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=_SMALLEST_SIDE).prod(dim=1)
    return (shared / area[:, None]).amax(dim=1)


def resize_boxes(boxes: Float[Tensor, "n 4"], size: tuple[int, int], new_size: tuple[int, int]) -> Float[Tensor, "n 4"]:
    """Boxes of an image of ``size`` (height, width) after it was resized to ``new_size``, clipped to it."""
    vertical, horizontal = new_size[0] / size[0], new_size[1] / size[1]
    return clip_boxes_to_image(boxes * boxes.new_tensor([horizontal, vertical, horizontal, vertical]), new_size)
