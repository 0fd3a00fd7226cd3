"""Sums over upsampled logits as Triton kernels: cross-entropy, and the summed probabilities of all classes.

Never run on a GPU: none was at hand. Validated in Triton's interpreter against ``upsampled_sums``, which is the reference and
does everything that is not done here. ``LONGTAIL_TRITON=0`` in the environment turns the kernels off.

No logit map, no atomics: the forward pass has one program for some pixels of a row, the backward pass one for a position of
the low map, which adds up the pixels that read it in a fixed order. Results do not depend on the order of programs.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from longtail.segmentation.once import as_last_derivative
from longtail.segmentation.upsampling import Upsampling

#: Pixels of one program, and classes that it looks at together.
_PIXELS, _CLASSES = 32, 64


def kernel_sums(
    logits: Tensor, places: Tensor, upsampling: Upsampling, *, weight: Tensor | None = None, probabilities: bool = False
) -> tuple[Tensor, Tensor]:
    """``Σ_own weight · (-log softmax(z)[y])`` and (C,) ``Σ_own softmax(z)``, of z = ``upsampling(logits)``, in float32.

    To be differentiated once.

    Args:
        logits: (n, C, h, w) at the head's own resolution.
        places: (n, H, W) class of each pixel; -1 for pixels that do not count, all others are *own*.
        upsampling: From the logits to the pixels.
        weight: (n, H, W) factor of each pixel's cross-entropy; it gets no gradient.
        probabilities: Whether the second is wanted; zeros otherwise.
    """
    return _KernelSums.apply(logits, places, upsampling, weight, probabilities)


class _KernelSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, places: Tensor, upsampling: Upsampling, weight: Tensor | None, probabilities: bool
    ) -> tuple[Tensor, Tensor]:
        n, classes, height, width = logits.shape
        low = logits.detach().movedim(1, -1).float().contiguous()
        own = places >= 0
        weight = own.float() if weight is None else (own * weight).float()
        places, weight = places.int().contiguous(), weight.contiguous()
        taps = [part.to(logits.device) for axis in (0, 1) for part in _taps(upsampling, axis, logits.shape[2 + axis])]
        tall, wide = upsampling.size
        tiles = triton.cdiv(wide, _PIXELS)
        log_sums = torch.empty(n, tall, wide, device=logits.device)
        losses = torch.empty_like(log_sums)
        parts = torch.empty(n * tall * tiles if probabilities else 1, classes, device=logits.device)
        _pixel_kernel[(tall, tiles, n)](
            *(low, places, weight, log_sums, losses, parts, *taps, height, width, classes, tall, wide),
            SUMMED=probabilities, PIXELS=_PIXELS, CLASSES=_CLASSES,
        )  # fmt: skip
        ctx.save_for_backward(low, places, weight, log_sums, *taps)
        ctx.asked = (probabilities, logits.dtype, upsampling)
        return losses.sum(), parts.sum(dim=0) if probabilities else logits.new_zeros(classes, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, on_loss: Tensor, on_sums: Tensor) -> tuple[Tensor | None, ...]:
        low, places, weight, log_sums, *taps = ctx.saved_tensors
        probabilities, dtype, upsampling = ctx.asked
        n, height, width, classes = low.shape
        tall, wide = upsampling.size
        factor = (weight * on_loss).contiguous()
        on_sums = on_sums.float().contiguous()
        slopes = torch.zeros_like(log_sums)
        sizes = (height, width, classes, tall, wide)
        if probabilities:
            _slope_kernel[(tall, triton.cdiv(wide, _PIXELS), n)](
                *(low, log_sums, on_sums, slopes, *taps, *sizes), PIXELS=_PIXELS, CLASSES=_CLASSES
            )
        gradient = torch.empty_like(low)
        readers = [
            part for axis in (0, 1) for part in _readers(taps[3 * axis], taps[3 * axis + 1], low.shape[1 + axis])
        ]
        _position_kernel[(height * width, triton.cdiv(classes, _CLASSES), n)](
            *(low, places, factor, log_sums, on_sums, slopes, gradient, *taps, *readers, *sizes),
            SUMMED=probabilities, CLASSES=_CLASSES,
        )  # fmt: skip
        return as_last_derivative(gradient.movedim(-1, 1).to(dtype)), None, None, None, None


def _taps(upsampling: Upsampling, axis: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    first, second, weight = upsampling.taps(axis, length)
    return first.int(), second.int(), weight.float()


def _readers(first: Tensor, second: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Range of the pixels along an axis that read each position: neither source ever goes back."""
    positions = torch.arange(length, dtype=first.dtype, device=first.device)
    start = torch.searchsorted(second, positions)
    return start.int(), torch.searchsorted(first, positions, right=True).int()


@triton.jit
def _sources(y_first, y_second, y_weight, x_first, x_second, x_weight, row, x, inside):
    """Rows and columns that pixels of a row lie between, and the weight of the second of each."""
    y0, y1, down = tl.load(y_first + row), tl.load(y_second + row), tl.load(y_weight + row)
    x0 = tl.load(x_first + x, mask=inside, other=0)[:, None]
    x1 = tl.load(x_second + x, mask=inside, other=0)[:, None]
    across = tl.load(x_weight + x, mask=inside, other=0.0)[:, None]
    return y0, y1, down, x0, x1, across


@triton.jit
def _between(low, y0, y1, down, x0, x1, across, width, classes, c, mask):
    """Logits of pixels: pixels x classes, between four positions each."""
    a = tl.load(low + (y0 * width + x0) * classes + c, mask=mask, other=0.0)
    b = tl.load(low + (y0 * width + x1) * classes + c, mask=mask, other=0.0)
    top = a + (b - a) * across
    a = tl.load(low + (y1 * width + x0) * classes + c, mask=mask, other=0.0)
    b = tl.load(low + (y1 * width + x1) * classes + c, mask=mask, other=0.0)
    return top + (a + (b - a) * across - top) * down


@triton.jit
def _pixel_kernel(
    low, places, weight, log_sums, losses, parts, y_first, y_second, y_weight, x_first, x_second, x_weight,
    height, width, classes, tall, wide, SUMMED: tl.constexpr, PIXELS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """Logarithm of the summed exponentials and weighted loss of every pixel; summed probabilities of the program's."""
    row, tile, image = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    x = tile * PIXELS + tl.arange(0, PIXELS)
    inside = x < wide
    pixel = (image * tall + row) * wide + x
    low += image * height * width * classes
    y0, y1, down, x0, x1, across = _sources(y_first, y_second, y_weight, x_first, x_second, x_weight, row, x, inside)
    place = tl.load(places + pixel, mask=inside, other=-1)
    top = tl.full([PIXELS], float("-inf"), tl.float32)
    total = tl.zeros([PIXELS], tl.float32)
    chosen = tl.zeros([PIXELS], tl.float32)
    for start in range(0, classes, CLASSES):
        c = (start + tl.arange(0, CLASSES))[None, :]
        z = _between(low, y0, y1, down, x0, x1, across, width, classes, c, inside[:, None] & (c < classes))
        z = tl.where(c < classes, z, float("-inf"))
        larger = tl.maximum(top, tl.max(z, 1))
        total = total * tl.exp(top - larger) + tl.sum(tl.exp(z - larger[:, None]), 1)
        top = larger
        chosen += tl.sum(tl.where(c == place[:, None], z, 0.0), 1)
    log_sum = top + tl.log(total)
    factor = tl.load(weight + pixel, mask=inside, other=0.0)
    tl.store(log_sums + pixel, log_sum, mask=inside)
    tl.store(losses + pixel, tl.where(place >= 0, factor * (log_sum - chosen), 0.0), mask=inside)
    if SUMMED:
        own = (place >= 0)[:, None]
        part = parts + ((image * tall + row) * tl.num_programs(1) + tile) * classes
        for start in range(0, classes, CLASSES):
            c = (start + tl.arange(0, CLASSES))[None, :]
            z = _between(low, y0, y1, down, x0, x1, across, width, classes, c, inside[:, None] & (c < classes))
            p = tl.where(own, tl.exp(z - log_sum[:, None]), 0.0)
            c = start + tl.arange(0, CLASSES)
            tl.store(part + c, tl.sum(p, 0), mask=c < classes)


@triton.jit
def _slope_kernel(
    low, log_sums, on_sums, slopes, y_first, y_second, y_weight, x_first, x_second, x_weight,
    height, width, classes, tall, wide, PIXELS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """<p, M> of every pixel, M the derivative with respect to the summed probabilities."""
    row, image = tl.program_id(0), tl.program_id(2).to(tl.int64)
    x = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    inside = x < wide
    pixel = (image * tall + row) * wide + x
    low += image * height * width * classes
    y0, y1, down, x0, x1, across = _sources(y_first, y_second, y_weight, x_first, x_second, x_weight, row, x, inside)
    log_sum = tl.load(log_sums + pixel, mask=inside, other=0.0)
    slope = tl.zeros([PIXELS], tl.float32)
    for start in range(0, classes, CLASSES):
        c = (start + tl.arange(0, CLASSES))[None, :]
        z = _between(low, y0, y1, down, x0, x1, across, width, classes, c, inside[:, None] & (c < classes))
        m = tl.load(on_sums + c, mask=c < classes, other=0.0)
        slope += tl.sum(tl.exp(z - log_sum[:, None]) * m, 1)
    tl.store(slopes + pixel, slope, mask=inside)


@triton.jit
def _position_kernel(
    low, places, factors, log_sums, on_sums, slopes, gradient,
    y_first, y_second, y_weight, x_first, x_second, x_weight, y_start, y_stop, x_start, x_stop,
    height, width, classes, tall, wide, SUMMED: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """Gradient of some classes of one position: that of every pixel which reads it, times the weight it reads it with."""
    position, image = tl.program_id(0), tl.program_id(2).to(tl.int64)
    i, j = position // width, position % width
    c = tl.program_id(1) * CLASSES + tl.arange(0, CLASSES)
    known = c < classes
    low += image * height * width * classes
    m = tl.load(on_sums + c, mask=known, other=0.0)
    total = tl.zeros([CLASSES], tl.float32)
    for y in range(tl.load(y_start + i), tl.load(y_stop + i)):
        y0, y1, down = tl.load(y_first + y), tl.load(y_second + y), tl.load(y_weight + y)
        on_row = tl.where(y0 == i, 1.0 - down, 0.0) + tl.where(y1 == i, down, 0.0)
        for x in range(tl.load(x_start + j), tl.load(x_stop + j)):
            x0, x1, across = tl.load(x_first + x), tl.load(x_second + x), tl.load(x_weight + x)
            on_column = tl.where(x0 == j, 1.0 - across, 0.0) + tl.where(x1 == j, across, 0.0)
            pixel = (image * tall + y) * wide + x
            place, factor = tl.load(places + pixel), tl.load(factors + pixel)
            z = _between(low, y0, y1, down, x0, x1, across, width, classes, c, known)
            p = tl.exp(z - tl.load(log_sums + pixel))
            pull = factor * (p - tl.where(c == place, 1.0, 0.0))
            if SUMMED:
                pull += tl.where(place >= 0, p * (m - tl.load(slopes + pixel)), 0.0)
            total += on_row * on_column * pull
    tl.store(gradient + (image * height * width + position) * classes + c, total, mask=known)
