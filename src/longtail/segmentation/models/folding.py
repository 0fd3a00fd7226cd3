"""Convolutions over maps that were brought to one size and concatenated, without making that concatenation.

A convolution is linear, and so is bilinear resampling: a map can be multiplied with its part of the weights at its own
resolution, and what comes out resampled. Exact up to rounding, gradients too; the smaller a map is than the result,
the more it saves.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from longtail.pixels import are_known
from longtail.segmentation.models.resampling import line, resize


def convolve_resized(
    maps: Sequence[Float[Tensor, "n _ _ _"]],
    weights: Sequence[Float[Tensor, "out _ k k"]],
    size: Sequence[int],
    bias: Float[Tensor, " out"] | None = None,
) -> Float[Tensor, "n out H W"]:
    """``conv2d(cat([resize(m, size) for m in maps]), cat(weights), bias, padding="same")``, each map where it costs least.

    Args:
        maps: Maps of any sizes.
        weights: The part of the convolution's weights that each map meets; k is odd.
        size: Height and width of the result.
        bias: Of the convolution.
    """
    pairs = list(zip(maps, weights, strict=True))
    if not are_known(*size) and weights[0].shape[-1] == 1:
        return sum((resize(F.conv2d(m, w), size) for m, w in pairs[1:]), start=resize(F.conv2d(*pairs[0], bias), size))
    small = [_cheaper_small(m, w.shape[-1], size) for m, w in pairs]
    whole = [pair for pair, own in zip(pairs, small, strict=True) if not own]
    total = None
    if whole:
        joined, weight = (_join(parts) for parts in zip(*((resize(m, size), w) for m, w in whole), strict=True))
        # A 1x1 slice would pass for channels-last; of others no copy is to be kept for the backward pass.
        weight = weight.contiguous() if weight.shape[-1] == 1 else weight
        total = F.conv2d(joined, weight, bias, padding=weight.shape[-1] // 2)
    rest = [pair for pair, own in zip(pairs, small, strict=True) if own]
    if rest:
        total = _add_small(total, rest, size)
    assert total is not None
    return total if whole or bias is None else total + bias[:, None, None]


def convolve_projected(
    maps: Sequence[Float[Tensor, "n _ _ _"]],
    projections: Sequence[nn.Conv2d | nn.Linear],
    weights: Sequence[Float[Tensor, "out inner 1 1"]],
    size: Sequence[int],
) -> Float[Tensor, "n out H W"]:
    """``convolve_resized`` of linear projections of the maps, which become one with the convolution where that is cheaper.

    Args:
        maps: Maps of any sizes.
        projections: The linear layer or 1x1 convolution, with bias, that each map goes through first.
        weights: The part of the 1x1 convolution's weights that each projected map meets.
        size: Height and width of the result.
    """
    inputs, folded, bias = [], [], weights[0].new_zeros(len(weights[0]))
    for m, projection, weight in zip(maps, projections, weights, strict=True):
        matrix, projection_bias = projection.weight.flatten(1), projection.bias
        assert projection_bias is not None
        # more positions than channels: the weights are the smaller product
        if not are_known(*m.shape) or m[:, 0].numel() > m.shape[1]:
            inputs.append(m)
            folded.append((weight.flatten(1) @ matrix)[..., None, None])
            bias = bias + weight.flatten(1) @ projection_bias  # resampling keeps a constant
        else:
            inputs.append(F.conv2d(m, matrix[..., None, None], projection_bias))
            folded.append(weight)
    return convolve_resized(inputs, folded, size, bias)


def _join(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts), dim=1) if len(parts) > 1 else parts[0]


def _cheaper_small(m: Tensor, kernel: int, size: Sequence[int]) -> bool:
    """Whether a map takes fewer multiplications at its own size, resampling included, than at the result's.

    While a model is exported for any size, only a map of known size (of pooled cells) is taken for small.
    """
    (channels, h, w), (height, width) = m.shape[-3:], size
    if not are_known(height, width):
        return are_known(h, w)
    small = kernel**2 * h * w * (channels + width) + kernel * h * height * width
    return small < kernel**2 * channels * height * width


def _add_small(
    total: Tensor | None, pairs: Sequence[tuple[Tensor, Tensor]], size: Sequence[int]
) -> Float[Tensor, "n out H W"]:
    """``total`` and the convolutions of the maps: each tap at the map's own size, then resampled and shifted at once.

    Resampling and shifting treat rows and columns separately, so they are a product with a matrix from either side; the one
    over the rows is shared by all maps.
    """
    (height, width), n, out = size, pairs[0][0].shape[0], len(pairs[0][1])
    rows, columns = [], []
    for m, weight in pairs:
        (channels, h, w), kernel = m.shape[1:], weight.shape[-1]
        taps = weight.permute(2, 3, 0, 1).reshape(-1, channels) @ m.transpose(0, 1).reshape(channels, -1)
        taps = taps.view(kernel, kernel, out, n, h, w).permute(3, 2, 0, 4, 1, 5)  # n, out, row tap, h, column tap, w
        columns.append(taps.reshape(-1, kernel * w) @ line(w, width, taps, kernel))
        rows.append(line(h, height, taps, kernel))
    left = torch.cat(rows).t().expand(n * out, -1, -1)
    right = torch.cat([c.view(n * out, -1, width) for c in columns], dim=1)
    added = torch.bmm(left, right) if total is None else torch.baddbmm(total.flatten(0, 1), left, right)
    return added.view(n, out, height, width)
