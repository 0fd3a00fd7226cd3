"""Upsampled maps a block at a time, so that no map of the image's size is made."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from longtail.pixels.upsampling import Upsampling
from longtail.precision import full_precision

#: Elements (classes x pixels) of one block: stays in the cache of a CPU core, and fills a GPU.
_BLOCK = {"cpu": 1 << 19, "cuda": 1 << 26}
#: Elements of a band's rows, which all of its blocks read, in blocks.
_BAND = 2
#: Columns of one block, and of one product: a pixel reads two columns of the low map, the product all that its pixels do.
_WIDTH, _TILE = 512, 64


class Tile(NamedTuple):
    """Neighbouring columns: the outputs, counted from the block's first, the inputs that they read, and the weights."""

    outputs: slice
    inputs: slice
    weights: Tensor


class Columns(NamedTuple):
    """Neighbouring columns of the image; no tiles where they are columns of the low map."""

    outputs: slice
    tiles: tuple[Tile, ...]


class Rows(NamedTuple):
    """Neighbouring rows of the image; two inputs and the weight of the second for each, and all that as a matrix."""

    outputs: slice
    inputs: slice
    taps: tuple[tuple[int, int, float], ...]
    weights: Tensor


class Block(NamedTuple):
    """A rectangle of the image."""

    rows: Rows
    columns: Columns

    def of(self, image: Tensor) -> Tensor:
        """The block of (..., H, W), its pixels flattened."""
        return image[..., self.rows.outputs, self.columns.outputs].flatten(-2)


class Band:
    """Blocks of neighbouring rows and the same columns, with the low map's rows that they read.

    Those rows are interpolated along the columns once, when a block first asks for them; a row of a block is then between
    two of them. The adjoint goes the other way: gradients of the blocks gather in rows, and ``pull`` takes them back.

    Args:
        low: The low map, rows first, contiguous.
        columns: Columns of all blocks.
        rows: Rows of each block.
    """

    def __init__(self, low: Float[Tensor, "h c w"], columns: Columns, rows: tuple[Rows, ...]) -> None:
        self.blocks = [Block(part, columns) for part in rows]
        self._inputs = slice(min(part.inputs.start for part in rows), max(part.inputs.stop for part in rows))
        self._low = low[self._inputs]
        self._columns = columns
        self._rows: Tensor | None = None
        self._pulled: Tensor | None = None

    def upsampled(self, block: Block) -> Float[Tensor, "c pixels"]:
        """The block of the upsampled map, in memory of its own."""
        if self._rows is None:
            self._rows = self._interpolated()
        part, found = block.rows, self._rows
        if not _row_by_row(found):
            return torch.tensordot(part.weights, found[self._read(part)], 1).transpose(0, 1).flatten(1)
        values = found.new_empty(found.shape[1], len(part.taps), found.shape[2])
        for row, (top, bottom, weight) in enumerate(part.taps):
            above, below = found[top - self._inputs.start], found[bottom - self._inputs.start]
            if weight:
                torch.lerp(above, below, weight, out=values[:, row])
            else:
                values[:, row] = above
        return values.flatten(1)

    def add_adjoint(self, gradient: Float[Tensor, "c pixels"], block: Block) -> None:
        """Take up a gradient with respect to a block."""
        part, classes = block.rows, len(gradient)
        if self._pulled is None:
            columns = self._columns.outputs
            self._pulled = gradient.new_zeros(len(self._low), classes, columns.stop - columns.start)
        gradient = gradient.view(classes, len(part.taps), -1)
        if not _row_by_row(gradient):
            self._pulled[self._read(part)] += torch.tensordot(part.weights.T, gradient.transpose(0, 1), 1)
            return
        for row, (top, bottom, weight) in enumerate(part.taps):
            if weight < 1:
                self._pulled[top - self._inputs.start].add_(gradient[:, row], alpha=1 - weight)
            if weight:
                self._pulled[bottom - self._inputs.start].add_(gradient[:, row], alpha=weight)

    def pull(self, total: Float[Tensor, "h c w"]) -> None:
        """Add to ``total`` what the gradients taken up are with respect to the low map."""
        if self._pulled is None:
            return
        part = total[self._inputs]
        if not self._columns.tiles:
            part[..., self._columns.outputs] += self._pulled
        for tile in self._columns.tiles:
            part[..., tile.inputs] += self._pulled[..., tile.outputs] @ tile.weights.T

    def _read(self, part: Rows) -> slice:
        return slice(part.inputs.start - self._inputs.start, part.inputs.stop - self._inputs.start)

    def _interpolated(self) -> Tensor:
        outputs, tiles = self._columns
        if not tiles:
            return self._low[..., outputs]
        rows = self._low.new_empty(*self._low.shape[:2], outputs.stop - outputs.start)
        for tile in tiles:
            torch.matmul(self._low[..., tile.inputs], tile.weights, out=rows[..., tile.outputs])
        return rows


class UpsampledBlocks:
    """Blocks of an upsampled map and the way back, without the map.

    Bilinear upsampling is linear and separable, ``x ↦ U_y x U_xᵀ`` with two entries in each row of U. Columns are
    interpolated first, for the low map's rows alone, as products with narrow matrices; then every row of the image lies
    between two of these. The adjoint, which takes a gradient back to the low map, goes the same way back. The cost is that
    of the pixels; any scale, fractional ones too, and the result does not depend on the order of threads.

    Args:
        upsampling: Geometry.
        values: A map (..., h, w) like those to be upsampled: size, device and dtype.
        channels: Number of channels that a block holds at once, which bounds its pixels.
    """

    def __init__(self, upsampling: Upsampling, values: Tensor, channels: int) -> None:
        (low_height, low_width), (height, width) = values.shape[-2:], upsampling.size
        block = _BLOCK.get(values.device.type, _BLOCK["cuda"])
        width = min(_WIDTH, width)
        rows = max(1, block // (channels * width))
        # Rows of the low map that a band may hold, as rows of the image.
        band = max(1, block * _BAND // (channels * width) * height // low_height // rows)
        like = (values.dtype, values.device)
        self._columns = _columns(upsampling, low_width, width, *like)
        self._rows = _rows(upsampling, low_height, rows, *like)
        self._bands = [self._rows[i : i + band] for i in range(0, len(self._rows), band)]

    def bands(self, low: Float[Tensor, "h c w"]) -> Iterator[Band]:
        """All blocks of a map, band by band.

        Args:
            low: Rows first, and contiguous.
        """
        for columns in self._columns:
            for rows in self._bands:
                yield Band(low, columns, rows)


def upsampled_pieces(
    logits: Float[Tensor, "experts n classes h w"], upsampling: Upsampling
) -> Iterator[tuple[int, Block, Tensor]]:
    """Logits of every expert at the image's size, block by block, without gradients.

    Args:
        logits: At the heads' own resolution.
        upsampling: From there to the image's size.

    Yields:
        The image's number, the block, and (experts, classes, pixels), which may be overwritten.
    """
    experts, n, classes = logits.shape[:3]
    dtype = torch.promote_types(logits.dtype, torch.float32)
    blocks = UpsampledBlocks(upsampling, logits.new_empty(logits.shape[-2:], dtype=dtype), experts * classes)
    for index in range(n):
        low = logits.detach()[:, index].flatten(0, 1).transpose(0, 1).to(dtype).contiguous()
        for band in blocks.bands(low):
            for block in band.blocks:
                with full_precision(low.device.type):
                    values = band.upsampled(block)
                yield index, block, values.unflatten(0, (experts, classes))


def _row_by_row(values: Tensor) -> bool:
    """Whether rows are computed one by one: each in the cache, where on a GPU each would be a launch."""
    return values.device.type == "cpu"


@lru_cache(maxsize=64)
def _columns(
    upsampling: Upsampling, low: int, step: int, dtype: torch.dtype, device: torch.device
) -> tuple[Columns, ...]:
    matrix = upsampling.matrix(1, low)
    identity = torch.equal(matrix, torch.eye(*matrix.shape, dtype=matrix.dtype))
    spans = []
    for start in range(0, len(matrix), step):
        stop = min(start + step, len(matrix))
        tiles = []
        for first in range(start, stop, _TILE):
            part = matrix[first : min(first + _TILE, stop)]
            inputs = _read(part)
            outputs = slice(first - start, first - start + len(part))
            tiles.append(Tile(outputs, inputs, part[:, inputs].T.to(device, dtype).contiguous()))
        spans.append(Columns(slice(start, stop), () if identity else tuple(tiles)))
    return tuple(spans)


@lru_cache(maxsize=64)
def _rows(upsampling: Upsampling, low: int, step: int, dtype: torch.dtype, device: torch.device) -> tuple[Rows, ...]:
    matrix = upsampling.matrix(0, low)
    taps = list(zip(*(part.tolist() for part in upsampling.taps(0, low)), strict=True))
    spans = []
    for start in range(0, len(matrix), step):
        part = matrix[start : start + step]
        own = tuple(taps[start : start + step])
        inputs = slice(min(tap[0] for tap in own), max(tap[1] for tap in own) + 1)
        spans.append(Rows(slice(start, start + len(part)), inputs, own, part[:, inputs].to(device, dtype)))
    return tuple(spans)


def _read(part: Tensor) -> slice:
    """Columns of a matrix that are not zero."""
    read = part.any(dim=0).nonzero()
    return slice(int(read.min()), int(read.max()) + 1)
