"""Upsampled maps a block at a time, as products with narrow matrices, so that no map of the image's size is made."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from longtail.segmentation.upsampling import Upsampling

#: Elements (classes x pixels) of one block: stays in the cache of a CPU core, and fills a GPU.
_BLOCK = {"cpu": 1 << 18, "cuda": 1 << 26}
#: Columns of one block. A pixel reads two columns of the low map; the product reads all that its pixels touch.
_WIDTH = 64


class Span(NamedTuple):
    """A range of one axis: its outputs, the inputs that they read, and the weights with which they read them."""

    outputs: slice
    inputs: slice
    weights: Tensor
    transposed: Tensor


class Block(NamedTuple):
    """A rectangle of the image."""

    rows: Span
    columns: Span

    def of(self, image: Tensor) -> Tensor:
        """The block of (..., H, W), its pixels flattened."""
        return image[..., self.rows.outputs, self.columns.outputs].flatten(-2)


class UpsampledBlocks:
    """Blocks of an upsampled map and the way back, without the map.

    Bilinear upsampling is linear and separable, ``x ↦ U_y x U_xᵀ`` with two entries in each row of U. A block is the
    product with the parts of U_y and U_x that are not zero for its pixels; its adjoint, which takes a gradient back to the
    low map, is the product with the transposed matrices. The cost is that of the pixels of the block; any scale,
    fractional ones too, and the result does not depend on the order of threads.

    Args:
        upsampling: Geometry.
        values: A map (..., h, w) like those to be upsampled: size, device and dtype.
        channels: Number of channels that a block holds at once, which bounds its pixels.
    """

    def __init__(self, upsampling: Upsampling, values: Tensor, channels: int) -> None:
        low, size = values.shape[-2:], upsampling.size
        self._identity = tuple(low) == size
        pixels = max(1, _BLOCK.get(values.device.type, _BLOCK["cuda"]) // channels)
        width = min(_WIDTH, size[1])
        self._spans = (
            _spans(upsampling, 0, low[0], max(1, pixels // width), values.dtype, values.device),
            _spans(upsampling, 1, low[1], width, values.dtype, values.device),
        )

    def __iter__(self) -> Iterator[Block]:
        for rows in self._spans[0]:
            for columns in self._spans[1]:
                yield Block(rows, columns)

    def upsampled(self, values: Float[Tensor, "c h w"], block: Block) -> Float[Tensor, "c pixels"]:
        """The block of the upsampled map, in memory of its own."""
        if self._identity:
            return block.of(values).clone()
        rows, columns = block
        part = rows.weights @ values[:, rows.inputs, columns.inputs]
        return (part.flatten(0, 1) @ columns.transposed).view(len(values), -1)

    def add_adjoint(self, total: Float[Tensor, "c h w"], gradient: Float[Tensor, "c pixels"], block: Block) -> None:
        """Add to ``total`` what a gradient with respect to the block is with respect to the low map."""
        rows, columns = block
        height, width = len(rows.weights), len(columns.weights)
        if self._identity:
            total[:, rows.outputs, columns.outputs] += gradient.reshape(len(total), height, width)
            return
        part = (gradient.reshape(-1, width) @ columns.weights).view(len(total), height, -1)
        total[:, rows.inputs, columns.inputs] += rows.transposed @ part


def upsampled_pieces(
    logits: Float[Tensor, "experts n classes h w"], upsampling: Upsampling
) -> Iterator[tuple[int, Block, Tensor]]:
    """Logits of every expert at the image's size, block by block, without gradients.

    Args:
        logits: At the heads' own resolution.
        upsampling: From there to the image's size.

    Yields:
        The image's number, the block, and (experts, classes, pixels).
    """
    experts, n, classes = logits.shape[:3]
    low = logits.detach().transpose(0, 1).flatten(1, 2)
    low = low.to(torch.promote_types(low.dtype, torch.float32))
    blocks = UpsampledBlocks(upsampling, low, experts * classes)
    for index in range(n):
        for block in blocks:
            with full_precision(low.device.type):
                values = blocks.upsampled(low[index], block)
            yield index, block, values.unflatten(0, (experts, classes))


@lru_cache(maxsize=64)
def _spans(
    upsampling: Upsampling, axis: int, length: int, step: int, dtype: torch.dtype, device: torch.device
) -> tuple[Span, ...]:
    matrix = upsampling.matrix(axis, length)
    spans = []
    for start in range(0, len(matrix), step):
        part = matrix[start : start + step]
        read = part.any(dim=0).nonzero()
        inputs = slice(int(read.min()), int(read.max()) + 1)
        weights = part[:, inputs].to(device, dtype)
        spans.append(Span(slice(start, start + len(part)), inputs, weights.contiguous(), weights.T.contiguous()))
    return tuple(spans)


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Products in the dtype of their factors, whatever autocast and ``set_float32_matmul_precision`` say.

    Interpolation is exact to float32 everywhere else; a weight rounded to bfloat16 would move the map by 0.4 %.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
