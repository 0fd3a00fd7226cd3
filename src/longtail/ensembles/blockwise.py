"""Sums over the pixels of maps, block by block, with the gradient formed on the way."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Elements of one block of (experts x classes x pixels): stays in the cache of a CPU core, and fills a GPU.
_BLOCK = {"cpu": 1 << 18, "cuda": 1 << 26}

Block = tuple[slice, slice]
Piece = TypeVar("Piece")


def blocks_of(logits: Tensor) -> Iterator[Block]:
    """Pieces (images, rows) that cover maps (experts, n, classes, h, w); boxes (experts, n, classes) are one piece."""
    if logits.ndim < 5:
        yield slice(None), slice(None)
        return
    experts, n, classes, height, width = logits.shape
    rows = max(1, _BLOCK.get(logits.device.type, _BLOCK["cuda"]) // (experts * classes * width))
    images = max(1, rows // height)
    for first in range(0, n, images):
        for top in range(0, height, rows):
            yield slice(first, first + images), slice(top, top + rows)


def cut(values: Tensor, block: Block, images: int = 0) -> Tensor:
    """The piece of a tensor: ``images`` is the dimension of the images, rows are the last but one."""
    index = [slice(None)] * values.ndim
    index[images] = block[0]
    if block[1] != slice(None):
        index[-2] = block[1]
    return values[tuple(index)]


def sum_over_blocks(
    evaluate: Callable[[Piece], Tensor], blocks: Iterable[Piece], parameters: Sequence[Tensor]
) -> Tensor:
    """``Σ evaluate(block)`` as if written down, in memory of one block.

    Each block's gradient is taken as soon as its value is known, and only the gradients of the parameters are kept: what a
    block computes never leaves the cache. The result can be differentiated once.

    Args:
        evaluate: Value of one block, a scalar; a function of the parameters.
        blocks: What to sum over; read once.
        parameters: Every tensor that the value depends on and that needs a gradient.
    """
    return _SumOverBlocks.apply(evaluate, blocks, *parameters)


class _SumOverBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, evaluate: Callable[[Any], Tensor], blocks: Iterable[Any], *parameters: Tensor) -> Tensor:
        wanted = [p for p, needed in zip(parameters, ctx.needs_input_grad[2:], strict=True) if needed]
        sums = [torch.zeros_like(p) for p in wanted]
        total = parameters[0].new_zeros(())
        for block in blocks:
            with torch.enable_grad():
                value = evaluate(block)
                gradients = torch.autograd.grad(value, wanted) if wanted else ()
            total += value.detach()
            for held, gradient in zip(sums, gradients, strict=True):
                held += gradient
        ctx.save_for_backward(*sums)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        sums = iter(ctx.saved_tensors)
        return None, None, *(next(sums) * scale if needed else None for needed in ctx.needs_input_grad[2:])
