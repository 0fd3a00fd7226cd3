"""Sums over upsampled logits as Triton kernels: cross-entropy, and the summed probabilities of all classes.

Never run on a GPU: none was at hand. Validated in Triton's interpreter against ``upsampled_sums``, which is the reference and
does everything that is not done here, and compiled for the GPUs of ``tests/segmentation/test_upsampled_triton.py``.
``LONGTAIL_TRITON=0`` in the environment turns the kernels off.

Four positions of the low map are the corners of a *cell*. In it a logit is bilinear in the place (u, v) of a pixel,
``z = k0 + k1 u + (k2 + k3 u) v``, so a program reads the corners of a cell once for all its pixels, which are stored tile by
tile (``_Tiles``). The lanes of its one warp are classes: what is summed over pixels stays in a lane. No logit map, no
atomics: every sum has a fixed order, and the result does not depend on the order of programs.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from longtail.pixels.once import as_last_derivative
from longtail.pixels.upsampling import Upsampling

#: Classes that a warp looks at together, cells along a row that one program goes through, and most pixels of a tile along an
#: axis: 4 x 4 pixels of 32 classes are 16 registers a lane.
_CLASSES, _CELLS, _PIXELS = 32, 16, 4
#: Given to Triton: one warp a program; products and sums may be fused (said, since Triton's default will change).
_OPTIONS = {"num_warps": 1, "enable_fp_fusion": True}


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
    with torch.cuda.device_of(logits):  # where Triton launches
        return _KernelSums.apply(logits, places, upsampling, weight, probabilities)


class _KernelSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, places: Tensor, upsampling: Upsampling, weight: Tensor | None, probabilities: bool
    ) -> tuple[Tensor, Tensor]:
        low = logits.detach().movedim(1, -1).float().contiguous()
        n, height, width, classes = low.shape
        tiles = _tiles(upsampling, height, width, low.device)
        own = places >= 0
        weight = tiles.order(own.float() if weight is None else (own * weight).float(), 0.0)
        places = tiles.order(places.int(), -1)
        log_sums = torch.empty_like(weight)
        losses = torch.empty_like(weight)
        strips, sizes = triton.cdiv(width, _CELLS), (height, width, classes)
        _log_sum_kernel[(strips, height, n)](
            low, places, weight, log_sums, losses, *tiles.tensors, *sizes, *tiles.grid, **tiles.constants
        )
        sums = torch.zeros(classes, device=low.device)
        if probabilities:
            parts = torch.empty(n * height * strips, classes, device=low.device)
            _probability_kernel[(triton.cdiv(classes, _CLASSES) * strips, height, n)](
                low, log_sums, parts, *tiles.tensors, *sizes, *tiles.grid, **tiles.constants
            )
            sums = parts.sum(dim=0)
        ctx.save_for_backward(low, places, weight, log_sums, *tiles.tensors)
        ctx.asked = (tiles.grid, tiles.constants, probabilities, logits.dtype)
        return losses.sum(), sums

    @staticmethod
    def backward(ctx: Any, on_loss: Tensor, on_sums: Tensor) -> tuple[Tensor | None, ...]:
        low, places, weight, log_sums, *tensors = ctx.saved_tensors
        grid, constants, probabilities, dtype = ctx.asked
        n, height, width, classes = low.shape
        factors = (weight * on_loss).contiguous()
        on_sums = on_sums.float().contiguous()
        strips, sizes = triton.cdiv(width, _CELLS), (height, width, classes, *grid)
        pulls = factors
        if probabilities:
            pulls = torch.empty_like(factors)
            _pull_kernel[(strips, height, n)](low, log_sums, factors, on_sums, pulls, *tensors, *sizes, **constants)
        gradient = torch.empty_like(low)
        for odd in (0, 1):  # neighbouring rows of cells share positions: one after the other
            if rows := (height + 1 - odd) // 2:
                _gradient_kernel[(triton.cdiv(classes, _CLASSES) * strips, rows, n)](
                    *(low, places, log_sums, factors, pulls, on_sums, gradient, *tensors, *sizes),
                    **constants, SUMMED=probabilities, ODD=bool(odd),
                )  # fmt: skip
        return as_last_derivative(gradient.movedim(-1, 1).to(dtype)), None, None, None, None


class _Axis(NamedTuple):
    """Tiles along one axis: the pixels of a cell, some at a time; the last tile of a cell is filled up.

    Args:
        starts: (cells + 1,) first tile of every cell; it ends where the next begins.
        pixels: (tiles x length,) number of every pixel, anything for one that fills up.
        real: (tiles x length,) False for pixels that fill up.
        places: (tiles x length,) place of every pixel in its cell, 0 to below 1.
        length: Pixels of a tile.
    """

    starts: Tensor
    pixels: Tensor
    real: Tensor
    places: Tensor
    length: int

    @classmethod
    def of(cls, upsampling: Upsampling, axis: int, cells: int) -> "_Axis":
        first, second, place = upsampling.taps(axis, cells)  # ``first`` never goes back
        place = place.where(second > first, 0)  # behind the last position there is nothing to go to
        length = min(_PIXELS, triton.next_power_of_2(triton.cdiv(len(first), cells)))
        number = torch.bincount(first, minlength=cells)
        tiles = (number + length - 1) // length
        starts = torch.cat([tiles.new_zeros(1), tiles.cumsum(0)])
        cell = torch.arange(cells).repeat_interleave(tiles * length)
        inside = torch.arange(len(cell)) - starts[cell] * length
        real = inside < number[cell]
        pixels = ((number.cumsum(0) - number)[cell] + inside).where(real, 0)
        return cls(starts.int(), pixels, real, place[pixels].float(), length)

    def to(self, device: torch.device) -> "_Axis":
        starts, pixels, real, places = (part.to(device) for part in self[:4])
        return _Axis(starts, pixels, real, places, self.length)


class _Tiles(NamedTuple):
    """How the pixels of an image are stored: tile by tile, so that a program reads one in a go and needs no masks.

    Args:
        rows: Tiles along the image's height, on the device.
        columns: Tiles along its width.
    """

    rows: _Axis
    columns: _Axis

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.rows.starts, self.rows.places, self.columns.starts, self.columns.places

    @property
    def grid(self) -> tuple[int, int]:
        return len(self.rows.pixels) // self.rows.length, len(self.columns.pixels) // self.columns.length

    @property
    def constants(self) -> dict[str, Any]:
        """What the kernels know when they are compiled, and Triton's options."""
        return {"TALL": self.rows.length, "WIDE": self.columns.length, "CLASSES": _CLASSES, "CELLS": _CELLS, **_OPTIONS}

    def order(self, values: Tensor, fill: float) -> Tensor:
        """(n, H, W) as (n, rows of tiles, columns of tiles, pixels of a tile), ``fill`` in those that fill up."""
        chosen = values[:, self.rows.pixels][:, :, self.columns.pixels]
        chosen = chosen.where(self.rows.real.unsqueeze(1) & self.columns.real, fill)
        tall, wide = self.grid
        split = chosen.view(len(values), tall, self.rows.length, wide, self.columns.length)
        return split.transpose(2, 3).flatten(3).contiguous()


@lru_cache(maxsize=16)
def _tiles(upsampling: Upsampling, height: int, width: int, device: torch.device) -> _Tiles:
    return _Tiles(*(_Axis.of(upsampling, axis, cells).to(device) for axis, cells in enumerate((height, width))))


@triton.jit
def _plane(low, i, j, height, width, classes, c):
    """k0 … k3 of a cell and of some classes, in units of log 2: exponentials are powers of 2 on a GPU."""
    known = c < classes
    below, right = tl.minimum(i + 1, height - 1), tl.minimum(j + 1, width - 1)
    # Classes that are none get a logit that no maximum and no sum will notice; infinity has no differences.
    a = tl.load(low + (i * width + j) * classes + c, mask=known, other=-1e30) * 1.4426950408889634
    b = tl.load(low + (i * width + right) * classes + c, mask=known, other=-1e30) * 1.4426950408889634
    d = tl.load(low + (below * width + j) * classes + c, mask=known, other=-1e30) * 1.4426950408889634
    e = tl.load(low + (below * width + right) * classes + c, mask=known, other=-1e30) * 1.4426950408889634
    return a, b - a, d - a, (e - d) - (b - a)


@triton.jit
def _logits(k0, k1, k2, k3, u, v):
    """Rows x columns x classes of pixels at places v and u of a cell."""
    top = k0[None, :] + k1[None, :] * u[:, None]
    slope = k2[None, :] + k3[None, :] * u[:, None]
    return top[None, :, :] + slope[None, :, :] * v[:, None, None]


@triton.jit
def _tile(image, y, x, tall, wide, TALL: tl.constexpr, WIDE: tl.constexpr):
    """Where the pixels of a tile are stored."""
    start = ((image * tall + y) * wide + x) * (TALL * WIDE)
    return start + tl.arange(0, TALL)[:, None] * WIDE + tl.arange(0, WIDE)[None, :]


@triton.jit
def _log_sum_kernel(
    low, places, weight, log_sums, losses, y_starts, y_places, x_starts, x_places, height, width, classes, tall, wide,
    TALL: tl.constexpr, WIDE: tl.constexpr, CLASSES: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    """Logarithm (to base 2) of the summed exponentials of every pixel, infinite for one not own, and its weighted loss."""
    strip, i, image = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    low += image * height * width * classes
    for j in range(strip * CELLS, tl.minimum(strip * CELLS + CELLS, width)):
        for y in range(tl.load(y_starts + i), tl.load(y_starts + i + 1)):
            v = tl.load(y_places + y * TALL + tl.arange(0, TALL))
            for x in range(tl.load(x_starts + j), tl.load(x_starts + j + 1)):
                u = tl.load(x_places + x * WIDE + tl.arange(0, WIDE))
                tops = tl.full([TALL, WIDE, CLASSES], -1e30, tl.float32)
                for start in range(0, classes, CLASSES):
                    k0, k1, k2, k3 = _plane(low, i, j, height, width, classes, start + tl.arange(0, CLASSES))
                    tops = tl.maximum(tops, _logits(k0, k1, k2, k3, u, v))
                top = tl.max(tops, 2)
                totals = tl.zeros([TALL, WIDE, CLASSES], tl.float32)
                for start in range(0, classes, CLASSES):
                    k0, k1, k2, k3 = _plane(low, i, j, height, width, classes, start + tl.arange(0, CLASSES))
                    totals += tl.exp2(_logits(k0, k1, k2, k3, u, v) - top[:, :, None])
                log_sum = top + tl.log2(tl.sum(totals, 2))
                pixel = _tile(image, y, x, tall, wide, TALL, WIDE)
                place = tl.load(places + pixel)
                own = place >= 0
                k0, k1, k2, k3 = _plane(low, i, j, height, width, classes, tl.maximum(place, 0))
                chosen = k0 + k1 * u[None, :] + (k2 + k3 * u[None, :]) * v[:, None]
                factor = tl.load(weight + pixel) * 0.6931471805599453
                tl.store(losses + pixel, tl.where(own, factor * (log_sum - chosen), 0.0))
                tl.store(log_sums + pixel, tl.where(own, log_sum, float("inf")))


@triton.jit
def _probability_kernel(
    low, log_sums, parts, y_starts, y_places, x_starts, x_places, height, width, classes, tall, wide,
    TALL: tl.constexpr, WIDE: tl.constexpr, CLASSES: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    """Summed probabilities of some classes over the own pixels of some cells."""
    strips = tl.cdiv(width, CELLS)
    strip, i, image = tl.program_id(0) % strips, tl.program_id(1), tl.program_id(2).to(tl.int64)
    c = tl.program_id(0) // strips * CLASSES + tl.arange(0, CLASSES)
    low += image * height * width * classes
    total = tl.zeros([CLASSES], tl.float32)
    for j in range(strip * CELLS, tl.minimum(strip * CELLS + CELLS, width)):
        k0, k1, k2, k3 = _plane(low, i, j, height, width, classes, c)
        for y in range(tl.load(y_starts + i), tl.load(y_starts + i + 1)):
            v = tl.load(y_places + y * TALL + tl.arange(0, TALL))
            for x in range(tl.load(x_starts + j), tl.load(x_starts + j + 1)):
                u = tl.load(x_places + x * WIDE + tl.arange(0, WIDE))
                log_sum = tl.load(log_sums + _tile(image, y, x, tall, wide, TALL, WIDE))
                p = tl.exp2(_logits(k0, k1, k2, k3, u, v) - log_sum[:, :, None])
                total += tl.sum(tl.sum(p, 0), 0)
    tl.store(parts + ((image * height + i) * strips + strip) * classes + c, total, mask=c < classes)


@triton.jit
def _pull_kernel(
    low, log_sums, factors, on_sums, pulls, y_starts, y_places, x_starts, x_places, height, width, classes, tall, wide,
    TALL: tl.constexpr, WIDE: tl.constexpr, CLASSES: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    """Factor of every pixel less <p, M>, M the derivative with respect to the summed probabilities."""
    strip, i, image = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    low += image * height * width * classes
    for j in range(strip * CELLS, tl.minimum(strip * CELLS + CELLS, width)):
        for y in range(tl.load(y_starts + i), tl.load(y_starts + i + 1)):
            v = tl.load(y_places + y * TALL + tl.arange(0, TALL))
            for x in range(tl.load(x_starts + j), tl.load(x_starts + j + 1)):
                u = tl.load(x_places + x * WIDE + tl.arange(0, WIDE))
                pixel = _tile(image, y, x, tall, wide, TALL, WIDE)
                log_sum = tl.load(log_sums + pixel)
                slopes = tl.zeros([TALL, WIDE, CLASSES], tl.float32)
                for start in range(0, classes, CLASSES):
                    c = start + tl.arange(0, CLASSES)
                    k0, k1, k2, k3 = _plane(low, i, j, height, width, classes, c)
                    m = tl.load(on_sums + c, mask=c < classes, other=0.0)
                    slopes += tl.exp2(_logits(k0, k1, k2, k3, u, v) - log_sum[:, :, None]) * m[None, None, :]
                tl.store(pulls + pixel, tl.load(factors + pixel) - tl.sum(slopes, 2))


@triton.jit
def _gradient_kernel(
    low, places, log_sums, factors, pulls, on_sums, gradient, y_starts, y_places, x_starts, x_places,
    height, width, classes, tall, wide,
    TALL: tl.constexpr, WIDE: tl.constexpr, CLASSES: tl.constexpr, CELLS: tl.constexpr,
    SUMMED: tl.constexpr, ODD: tl.constexpr,
):  # fmt: skip
    """Gradient of some classes at the positions above and below some cells: written by even rows, added to by odd ones.

    That of a pixel's logit is ``p (M + pull) - factor [c = y]``; each corner gets it times the weight it is read with. The
    cell left of the first is computed once more, for what it gives to the corners which the two share.
    """
    strips = tl.cdiv(width, CELLS)
    strip, image = tl.program_id(0) % strips, tl.program_id(2).to(tl.int64)
    i = tl.program_id(1) * 2 + (1 if ODD else 0)
    c = tl.program_id(0) // strips * CLASSES + tl.arange(0, CLASSES)
    low += image * height * width * classes
    gradient += image * height * width * classes
    m = tl.zeros([CLASSES], tl.float32)
    if SUMMED:
        m = tl.load(on_sums + c, mask=c < classes, other=0.0)
    above = tl.zeros([CLASSES], tl.float32)  # what the last cell gave to the corners on its right
    below = tl.zeros([CLASSES], tl.float32)
    for j in range(tl.maximum(strip * CELLS - 1, 0), tl.minimum(strip * CELLS + CELLS, width)):
        k0, k1, k2, k3 = _plane(low, i, j, height, width, classes, c)
        # Sums of the gradient over the cell's pixels: as it is, times u, times v, and times both.
        sum_1 = tl.zeros([CLASSES], tl.float32)
        sum_u = tl.zeros([CLASSES], tl.float32)
        sum_v = tl.zeros([CLASSES], tl.float32)
        sum_uv = tl.zeros([CLASSES], tl.float32)
        for y in range(tl.load(y_starts + i), tl.load(y_starts + i + 1)):
            v = tl.load(y_places + y * TALL + tl.arange(0, TALL))
            for x in range(tl.load(x_starts + j), tl.load(x_starts + j + 1)):
                u = tl.load(x_places + x * WIDE + tl.arange(0, WIDE))
                pixel = _tile(image, y, x, tall, wide, TALL, WIDE)
                p = tl.exp2(_logits(k0, k1, k2, k3, u, v) - tl.load(log_sums + pixel)[:, :, None])
                chosen = c[None, None, :] == tl.load(places + pixel)[:, :, None]
                g = p * (m[None, None, :] + tl.load(pulls + pixel)[:, :, None])
                g -= tl.where(chosen, tl.load(factors + pixel)[:, :, None], 0.0)
                columns = tl.sum(g, 0)
                leaning = tl.sum(g * v[:, None, None], 0)
                sum_1 += tl.sum(columns, 0)
                sum_u += tl.sum(columns * u[:, None], 0)
                sum_v += tl.sum(leaning, 0)
                sum_uv += tl.sum(leaning * u[:, None], 0)
        here = gradient + (i * width + j) * classes + c
        under = here + width * classes
        mine = c < tl.where(strip * CELLS <= j, classes, 0)
        mine_under = c < tl.where((strip * CELLS <= j) & (i + 1 < height), classes, 0)
        above += sum_1 - sum_u - sum_v + sum_uv
        below += sum_v - sum_uv
        if ODD:
            above += tl.load(here, mask=mine, other=0.0)
            below += tl.load(under, mask=mine_under, other=0.0)
        tl.store(here, above, mask=mine)
        tl.store(under, below, mask=mine_under)
        above, below = sum_u - sum_uv, sum_uv
