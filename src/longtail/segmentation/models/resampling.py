"""Bilinear resampling of feature maps as two matrix products."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from longtail.pixels import are_known, interpolation


def resize(x: Float[Tensor, "n c h w"], size: Sequence[int]) -> Float[Tensor, "n c H W"]:
    """Bilinear resampling to a size (height, width), pixel centres aligned as areas (``align_corners=False``).

    Rows and columns separately, as products with small matrices: on a CPU faster than ``interpolate`` both ways at the sizes
    of feature maps, and its gradient is deterministic on a GPU too.
    """
    if not are_known(*x.shape[-2:], *size):
        return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
    if x.shape[-2:] == tuple(size):
        return x
    if x.shape[-2:] == (1, 1):  # the bilinear resampling of one value is that value
        return x.expand(-1, -1, *size)
    rows, columns = (line(x.shape[axis], size[axis], x) for axis in (-2, -1))
    return rows.t() @ (x @ columns)


def line(inputs: int, outputs: int, like: Tensor, kernel: int = 1) -> Float[Tensor, "taps outputs"]:
    """Linear resampling of a line as a matrix, shifted to where each tap of a zero-padded convolution reads the result.

    Args:
        inputs: Length of the line.
        outputs: Length that it is resampled to.
        like: Gives device and dtype.
        kernel: Taps of the convolution; odd.

    Returns:
        ``inputs`` rows for the first tap, then for the second, and so on.
    """
    padded = F.pad(interpolation(inputs, outputs, like), (kernel // 2, kernel // 2))
    return torch.cat([padded[:, tap : tap + outputs] for tap in range(kernel)]).to(like.dtype)


def mean_cells(x: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c side side"]:
    """``adaptive_avg_pool2d(x, side)``, also for sizes that are not known yet.

    Args:
        x: Any map.
        side: Rows and columns of the grid of cells.
    """
    if are_known(*x.shape[-2:]):
        return F.adaptive_avg_pool2d(x, side)
    rows, columns = (_cells(x.shape[axis], side, x) for axis in (-2, -1))
    return rows @ (x @ columns.t())


def _cells(length: int, cells: int, like: Tensor) -> Float[Tensor, "cells length"]:
    """Means over parts of a line as a matrix; part i is from floor(i length / cells) to ceil((i + 1) length / cells)."""
    index = torch.arange(cells, device=like.device).unsqueeze(1)
    first, behind = index * length // cells, ((index + 1) * length + cells - 1) // cells
    places = torch.arange(length, device=like.device)
    inside = ((places >= first) & (places < behind)).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)
