"""RoIAlign over a feature pyramid."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import roi_align

#: A box of this side, in pixels, is pooled from a level of stride 4; each doubling goes one level up.
_SIDE_AT_STRIDE_4 = 56.0


class PyramidPooler(nn.Module):
    """Pools boxes from the pyramid level that fits their size.

    Strides are given, not inferred from the batch, so that a box is pooled alike whatever it is batched with.

    Args:
        output_size: Side of the pooled map.
        strides: Stride of the levels to pool from, finest first, each twice the one before.
        samples: Sampling points per bin and axis; 0 for as many as the bin has cells.
        aligned: Shift by half a pixel, so that neighbouring boxes are treated alike.

    Source: FPN (Lin 2017), Eq. 1.
    """

    def __init__(self, output_size: int, strides: Sequence[int], samples: int = 0, aligned: bool = True) -> None:
        super().__init__()
        self.output_size = output_size
        self.strides = tuple(strides)
        self.samples = samples
        self.aligned = aligned

    def forward(
        self, features: Sequence[Float[Tensor, "n c _ _"]], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> Float[Tensor, "r c s s"]:
        """Pooled features of all boxes, image after image.

        Args:
            features: At least as many levels as strides; further ones are not used.
            boxes: Boxes of every image, xyxy in pixels of the network's input.
        """
        rois = as_rois(boxes)
        levels = self.levels(rois[:, 1:])
        pooled = features[0].new_zeros(len(rois), features[0].shape[1], self.output_size, self.output_size)
        for level, stride in enumerate(self.strides):
            chosen = torch.where(levels == level)[0]
            values = pool(features[level], rois[chosen], self.output_size, stride, self.samples, self.aligned)
            pooled[chosen] = values.to(pooled.dtype)
        return pooled

    def levels(self, boxes: Float[Tensor, "r 4"]) -> Int[Tensor, " r"]:
        """Index of the level of each box."""
        side = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()
        finest = _SIDE_AT_STRIDE_4 * self.strides[0] / 4
        level = torch.floor(torch.log2(side / finest) + 1e-6)
        return level.clamp(0, len(self.strides) - 1).to(torch.int64)


def as_rois(boxes: Sequence[Float[Tensor, "_ 4"]]) -> Float[Tensor, "r 5"]:
    """Boxes of all images in one tensor, each with the index of its image in front."""
    indexed = [torch.cat([b.new_full((len(b), 1), float(i)), b], dim=1) for i, b in enumerate(boxes)]
    return torch.cat(indexed)


def pool(
    level: Float[Tensor, "n c h w"],
    rois: Float[Tensor, "r 5"],
    size: int,
    stride: int,
    samples: int = 0,
    aligned: bool = True,
) -> Float[Tensor, "r c s s"]:
    """RoIAlign of one level, in float32."""
    return roi_align(level.float(), rois.float(), (size, size), 1.0 / stride, samples or -1, aligned)
