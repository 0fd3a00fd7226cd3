"""Bilinear resampling of feature maps as two matrix products."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def resize(x: Float[Tensor, "n c h w"], size: Sequence[int]) -> Float[Tensor, "n c H W"]:
    """Bilinear resampling to a size (height, width), pixel centres aligned as areas (``align_corners=False``).

    Rows and columns separately, as products with small matrices: on a CPU faster than ``interpolate`` both ways at the sizes
    of feature maps, and its gradient is deterministic on a GPU too.
    """
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
    exact = like.dtype if like.dtype == torch.float64 else torch.float32
    unit = torch.eye(inputs, dtype=exact, device=like.device).unsqueeze(0)
    resampled = F.interpolate(unit, outputs, mode="linear", align_corners=False)[0]
    shifted = F.pad(resampled, (kernel // 2, kernel // 2)).unfold(1, outputs, 1)  # inputs, taps, outputs
    return shifted.transpose(0, 1).reshape(-1, outputs).to(like.dtype)
