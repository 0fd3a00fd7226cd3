"""Maps at the image's size, one band of rows at a time, so that the whole map is never made."""

from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from typing import NamedTuple, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longtail.pixels.upsampling import Upsampling, linear_map
from longtail.precision import at_least_float32, full_precision

#: Elements (channels x pixels) of one band: it stays in the cache of a CPU core, and fills a GPU.
BAND_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 26}
#: Columns of one matrix product: its matrix is narrow, since neighbouring columns read few columns of the low map.
_TILE = 64
#: Bands whose rows of the low map are interpolated along the columns together.
_AHEAD = 4

P = ParamSpec("P")
R = TypeVar("R")


def not_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """``torch.compiler.disable``, applied at the first call: applied here it would import the compiler, for seconds."""
    disabled: list[Callable[P, R]] = []

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not disabled:
            disabled.append(torch.compiler.disable(function))
        return disabled[0](*args, **kwargs)

    return call


class Tile(NamedTuple):
    """Neighbouring columns of the image, the columns of the low map that they read, and the (inputs, outputs) weights."""

    outputs: slice
    inputs: slice
    weights: Tensor


class Band(NamedTuple):
    """Neighbouring rows of the image, and how they are interpolated from the low map.

    Upsampling is linear and separable: ``U_y x U_xᵀ`` with two entries in each row of U_y and U_x. The columns are
    interpolated first, for the few rows that the band reads.

    Attributes:
        rows: Rows of the image.
        inputs: Rows of the low map that they read.
        down: (rows, inputs), the band's part of U_y; None where the low map has the image's size.
        across: U_x, cut into tiles.
    """

    rows: slice
    inputs: slice
    down: Tensor | None
    across: tuple[Tile, ...]

    @property
    def columns(self) -> int:
        """Columns of the image."""
        return self.across[-1].outputs.stop

    def widened(self, low: Float[Tensor, "*channels h w"]) -> Float[Tensor, "*channels h W"]:
        """Rows of the low map, interpolated along the columns."""
        if self.down is None:
            return low[..., : self.columns]
        flat = low.reshape(-1, low.shape[-1])
        wide = flat.new_empty(len(flat), self.columns)
        with full_precision(low.device.type):
            for outputs, inputs, weights in self.across:
                torch.mm(flat[:, inputs], weights, out=wide[:, outputs])
        return wide.view(*low.shape[:-1], self.columns)

    def between(self, wide: Float[Tensor, "*channels inputs W"]) -> Float[Tensor, "*channels rows W"]:
        """The band in new memory, from the rows ``inputs`` of ``widened``."""
        if self.down is None:
            return wide.clone(memory_format=torch.contiguous_format)
        with full_precision(wide.device.type):
            return self.down @ wide

    def adjoint(self, gradient: Float[Tensor, "*channels rows W"], width: int) -> Float[Tensor, "*channels inputs w"]:
        """Gradient with respect to the rows ``inputs`` of the low map.

        Args:
            gradient: With respect to the band.
            width: Columns of the low map.
        """
        if self.down is None:
            return F.pad(gradient, (0, width - gradient.shape[-1]))
        with full_precision(gradient.device.type):
            narrow = self.down.T @ gradient
            flat = narrow.view(-1, narrow.shape[-1])
            total = flat.new_zeros(len(flat), width)
            for outputs, inputs, weights in self.across:
                total[:, inputs].addmm_(flat[:, outputs], weights.T)
        return total.view(*narrow.shape[:-1], width)


def bands_of(low: Float[Tensor, "... h w"], upsampling: Upsampling) -> tuple[Band, ...]:
    """Bands that cover the image; maps of many channels have low bands.

    Args:
        low: The map to be upsampled.
        upsampling: From there to the image's size.
    """
    elements = BAND_ELEMENTS.get(low.device.type, BAND_ELEMENTS["cuda"])
    rows = max(1, elements // max(1, low[..., 0, 0].numel() * upsampling.size[1]))
    return _bands(upsampling, (low.shape[-2], low.shape[-1]), rows, low.dtype, low.device)


def upsampled_bands(
    low: Float[Tensor, "*channels h w"], upsampling: Upsampling
) -> Iterator[tuple[Band, Float[Tensor, "*channels rows W"]]]:
    """Every band and its part of ``upsampling(low)``, in memory that may be overwritten; without gradients.

    Args:
        low: Map at the head's own resolution.
        upsampling: From there to the image's size.
    """
    bands = bands_of(low, upsampling)
    ahead = max(1, low.shape[-2] * _AHEAD // len(bands))  # rows of the low map that a few bands read
    wide, start, stop = low, 0, 0
    for band in bands:
        first, last = band.inputs.start, band.inputs.stop
        if last > stop:  # neighbouring bands share rows, which are interpolated along the columns once
            end = min(max(last, stop + ahead), low.shape[-2])
            fresh = band.widened(low[..., max(first, stop) : end, :])
            wide = torch.cat([wide[..., first - start :, :], fresh], dim=-2) if first < stop else fresh
            start, stop = first, end
        yield band, band.between(wide[..., first - start : last - start, :])


@not_compiled
def sum_over_bands(
    evaluate: Callable[..., tuple[Tensor, ...]],
    low: Float[Tensor, "*channels h w"],
    upsampling: Upsampling,
    *maps: Tensor,
) -> tuple[Tensor, ...]:
    """``evaluate(upsampling(low), *maps)`` for sums over pixels, in memory of one band.

    Each band is computed once more in the backward pass, so nothing of the image's size is kept. Values and gradients, of
    any order and also with respect to parameters that ``evaluate`` reads, are those of the whole map, to rounding.

    Args:
        evaluate: A band (*channels, rows, W) and the same rows of ``maps`` -> tensors that are sums over the pixels.
        low: Map at the head's own resolution; half precision is computed in float32.
        upsampling: From there to the image's size.
        maps: What else is known of each pixel, (..., H, W).
    """
    low = at_least_float32(low)
    rows = low.unbind(dim=-2)  # not slices: the gradient of a slice is as large as the whole map
    totals: tuple[Tensor, ...] = ()
    for band in bands_of(low, upsampling):
        part = torch.stack(rows[band.inputs], dim=-2)
        cut = [values[..., band.rows, :] for values in maps]
        sums = checkpoint(_evaluated, evaluate, part, band, *cut, use_reentrant=False)
        totals = tuple(map(torch.add, totals, sums)) if totals else tuple(sums)
    return totals


def _evaluated(
    evaluate: Callable[..., tuple[Tensor, ...]], part: Tensor, band: Band, *maps: Tensor
) -> tuple[Tensor, ...]:
    width = part.shape[-1]
    with full_precision(part.device.type):
        values = linear_map(part, lambda low: band.between(band.widened(low)), lambda high: band.adjoint(high, width))
        return evaluate(values, *maps)


@lru_cache(maxsize=64)
def _bands(
    upsampling: Upsampling, low: tuple[int, int], step: int, dtype: torch.dtype, device: torch.device
) -> tuple[Band, ...]:
    down, across = (upsampling.matrix(axis, length) for axis, length in enumerate(low))
    tiles = []
    for left in range(0, len(across), _TILE):
        part = across[left : left + _TILE]
        inputs = _read(part)
        weights = part[:, inputs].T.to(device, dtype).contiguous()
        tiles.append(Tile(slice(left, left + len(part)), inputs, weights))
    bands = []
    for top in range(0, len(down), step):
        part = down[top : top + step]
        inputs = _read(part)
        rows = None if low == upsampling.padded else part[:, inputs].to(device, dtype)
        bands.append(Band(slice(top, top + len(part)), inputs, rows, tuple(tiles)))
    return tuple(bands)


def _read(part: Tensor) -> slice:
    """Columns of a matrix that are not zero."""
    read = part.any(dim=0).nonzero()
    return slice(int(read.min()), int(read.max()) + 1)
