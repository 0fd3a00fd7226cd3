"""Bilinear upsampling as an object: whole maps, single pixels, or sums over all pixels, without the map where it can be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from longtail.ensembles.labels import most_probable
from longtail.pixels.once import as_last_derivative

#: Elements (classes x pixels) that are interpolated together: stay in the cache of a CPU core, and fill a GPU.
_BLOCK = {"cpu": 1 << 18, "cuda": 1 << 26}


@dataclass(frozen=True)
class Upsampling:
    """How a head's maps become maps of the image's size: the geometry of ``full_size``.

    Args:
        size: Height and width (H, W) of the image.
        divisor: The head saw the image padded right and below to a multiple of this.
        align_corners: As in ``torch.nn.functional.interpolate``.
    """

    size: tuple[int, int]
    divisor: int = 1
    align_corners: bool = False

    def __call__(self, values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c H W"]:
        """The whole map at the image's size."""
        return full_size(values, self.size, self.divisor, self.align_corners)

    def at(self, values: Float[Tensor, "n c h w"], pixels: Bool[Tensor, "n H W"]) -> Float[Tensor, "pixels c"]:
        """Upsampled values at some pixels alone, in the order of ``pixels.nonzero()``.

        Equals ``self(values).movedim(1, -1)[pixels]``; its cost is that of the pixels asked for. To be differentiated once.
        """
        if tuple(values.shape[-2:]) == self.size:
            return values.movedim(1, -1)[pixels]
        rows = values.movedim(1, -1).reshape(-1, values.shape[1]).contiguous()  # a view where there is one image
        return _WeightedRows.apply(rows, *_corners(pixels.nonzero(), *self._pairs(values)))

    @torch.no_grad()
    def labels(self, values: Float[Tensor, "n c h w"]) -> Integer[Tensor, "n H W"]:
        """``self(values).argmax(dim=1)``, which interpolates only pixels between positions of different classes.

        Where the four positions around a pixel have the same largest channel, the pixel has it too, since bilinear weights
        are not negative; on maps of objects these are most pixels. In float32 for half-precision values.
        """
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        own = most_probable(values)
        if tuple(values.shape[-2:]) == self.size:
            return own
        height, width = values.shape[-2:]
        (top, _, _), (left, _, _) = self.taps(0, height), self.taps(1, width)
        below = own[:, torch.arange(1, height + 1).clamp(max=height - 1)]
        right = torch.arange(1, width + 1).clamp(max=width - 1)
        mixed = (own != below) | (own != own[..., right]) | (own != below[..., right])
        labels = own[..., left][:, top]
        pixels = mixed[..., left][:, top]
        rows = values.movedim(1, -1).flatten(0, 2).contiguous()
        step = max(1, _BLOCK.get(values.device.type, _BLOCK["cuda"]) // values.shape[1])
        down, across = self._pairs(values)
        found = []
        for part in pixels.nonzero().split(step):
            corners, weights = _corners(part, down, across)
            found.append(most_probable(F.embedding_bag(corners, rows, mode="sum", per_sample_weights=weights)))
        return labels.masked_scatter_(pixels, torch.cat(found))

    def _pairs(self, values: Float[Tensor, "n c h w"]) -> tuple["_Pairs", "_Pairs"]:
        """What the rows and the columns of the image read; positions are numbered row by row."""
        height, width = values.shape[-2:]
        pairs = []
        for axis, length, step in ((0, height, width), (1, width, 1)):
            first, second, weight = self.taps(axis, length)
            positions = torch.stack([first, second], dim=1) * step
            weights = torch.stack([1 - weight, weight], dim=1)
            pairs.append(_Pairs(positions.to(values.device), weights.to(values), height * width))
        return pairs[0], pairs[1]

    def sums_of_squares(self, values: Float[Tensor, "n c h w"]) -> Float[Tensor, " c"]:
        """Sum over all pixels of the squared upsampled values, for each channel; to be differentiated once.

        Upsampling is linear and separable, x ↦ U_y x U_xᵀ, so ``Σ (U_y x U_xᵀ)² = <x, G_y x G_x>`` with G = UᵀU, and the
        gradient is 2 G_y x G_x: two products at the head's own resolution, and no map of the image's size.
        """
        gram_y, gram_x = (
            (matrix.T @ matrix).to(values) for matrix in (self.matrix(a, values.shape[-2 + a]) for a in (0, 1))
        )
        return _QuadraticForm.apply(values, gram_y, gram_x)

    def matrix(self, axis: int, length: int) -> Float[Tensor, "wanted length"]:
        """U of one axis, on the CPU in float64: the map is ``U_y x U_xᵀ``.

        Args:
            axis: 0 for rows, 1 for columns.
            length: Size of the head's map along this axis.
        """
        first, second, weight = self.taps(axis, length)
        matrix = torch.zeros(len(first), length, dtype=torch.float64)
        matrix.scatter_add_(1, first.unsqueeze(1), (1 - weight).unsqueeze(1))
        return matrix.scatter_add_(1, second.unsqueeze(1), weight.unsqueeze(1))

    def taps(self, axis: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """For every pixel along an axis: its two source positions, and the weight of the second."""
        wanted = self.size[axis]
        padded = wanted + -wanted % self.divisor
        position = torch.arange(wanted, dtype=torch.float64)
        if self.align_corners:
            source = position * ((length - 1) / max(1, padded - 1))
        else:
            source = ((position + 0.5) * (length / padded) - 0.5).clamp(min=0)
        first = source.floor().long().clamp(max=length - 1)
        return first, (first + 1).clamp(max=length - 1), source - first


class _Pairs(NamedTuple):
    """The two positions that every row or column of the image reads, their weights, and the positions of one image."""

    positions: Tensor
    weights: Tensor
    per_image: int


def _corners(pixels: Integer[Tensor, "pixels 3"], down: _Pairs, across: _Pairs) -> tuple[Tensor, Tensor]:
    """Numbers of the four positions (of all images, row by row) around each pixel (image, y, x), and their weights."""
    image, y, x = pixels.unbind(dim=1)
    rows = down.positions[y] + (image * down.per_image).unsqueeze(1)
    positions = rows.unsqueeze(2) + across.positions[x].unsqueeze(1)
    weights = down.weights[y].unsqueeze(2) * across.weights[x].unsqueeze(1)
    return positions.flatten(1), weights.flatten(1)


class _WeightedRows(torch.autograd.Function):
    """Sums of weighted rows, a few for every result: one pass each way, in a fixed order."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(chosen, weights)
        ctx.length = len(rows)
        return F.embedding_bag(chosen, rows, mode="sum", per_sample_weights=weights)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        chosen, weights = ctx.saved_tensors
        # The other way about: for every row, the results that it went into.
        per_row = torch.bincount(chosen.flatten(), minlength=ctx.length)
        order = chosen.flatten().argsort(stable=True)
        gradient = F.embedding_bag(
            order // chosen.shape[1],
            upstream.contiguous(),
            per_row.cumsum(0) - per_row,
            mode="sum",
            per_sample_weights=weights.flatten()[order],
        )
        return as_last_derivative(gradient), None, None


class _QuadraticForm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, gram_y: Tensor, gram_x: Tensor) -> Tensor:
        product = gram_y @ values @ gram_x
        ctx.save_for_backward(product)
        return (product * values).sum(dim=(0, 2, 3))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (product,) = ctx.saved_tensors
        return as_last_derivative(product * (2 * upstream).view(-1, 1, 1)), None, None


def full_size(
    values: Float[Tensor, "n c h w"], size: Sequence[int], divisor: int = 1, align_corners: bool = False
) -> Float[Tensor, "n c H W"]:
    """Bilinear upsampling of a map over the padded image to the image's own size (h, w)."""
    height, width = int(size[0]), int(size[1])
    padded = (height + -height % divisor, width + -width % divisor)
    if tuple(values.shape[-2:]) != padded:
        values = F.interpolate(values, padded, mode="bilinear", align_corners=align_corners)
    return values[..., :height, :width]
