"""Bilinear upsampling as an object: whole maps, single pixels, and sums of squares without the map."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor


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

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of what the head saw."""
        return _padded(self.size, self.divisor)

    def __call__(self, values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c H W"]:
        """The whole map at the image's size."""
        return full_size(values, self.size, self.divisor, self.align_corners)

    def at(self, values: Float[Tensor, "n c h w"], pixels: Bool[Tensor, "n H W"]) -> Float[Tensor, "pixels c"]:
        """Upsampled values at some pixels alone, in the order of ``pixels.nonzero()``.

        Equals ``self(values).movedim(1, -1)[pixels]``; the cost is that of the pixels asked for.
        """
        if tuple(values.shape[-2:]) == self.padded:
            return values[..., : self.size[0], : self.size[1]].movedim(1, -1)[pixels]
        rows = _positions(values)
        chosen, weights = self._corners(values.shape[-2:], pixels.nonzero(), values.dtype)
        return linear_map(
            rows, lambda low: _gather(low, chosen, weights), lambda high: _scatter(high, chosen, weights, len(rows))
        )

    def at_adjoint(
        self, gradient: Float[Tensor, "pixels c"], pixels: Bool[Tensor, "n H W"], low: Sequence[int]
    ) -> Float[Tensor, "n c h w"]:
        """Gradient with respect to the values of ``at``, whose height and width are ``low``."""
        corners, weights = self._corners(low, pixels.nonzero(), gradient.dtype)
        rows = _scatter(gradient, corners, weights, len(pixels) * low[0] * low[1])
        return rows.view(len(pixels), low[0], low[1], -1).movedim(-1, 1)

    def _corners(
        self, low: Sequence[int], pixels: Integer[Tensor, "pixels 3"], dtype: torch.dtype
    ) -> tuple[Integer[Tensor, "pixels 4"], Float[Tensor, "pixels 4"]]:
        """The four positions of the low map around each pixel (image, y, x), as rows of ``_positions``, and their weights."""
        image, y, x = pixels.unbind(dim=1)
        top, bottom, down = (part.to(pixels.device)[y] for part in self.taps(0, low[0]))
        left, right, across = (part.to(pixels.device)[x] for part in self.taps(1, low[1]))
        first, second = (image * low[0] + top) * low[1], (image * low[0] + bottom) * low[1]
        corners = torch.stack([first + left, first + right, second + left, second + right], dim=1)
        vertical, horizontal = torch.stack([1 - down, down], dim=1), torch.stack([1 - across, across], dim=1)
        weights = vertical.unsqueeze(2) * horizontal.unsqueeze(1)
        return corners, weights.flatten(1).to(dtype)

    @torch.no_grad()
    def scores_at(
        self, values: Float[Tensor, "n c h w"], pixels: Bool[Tensor, "n H W"], step: int
    ) -> Iterator[Float[Tensor, "some c"]]:
        """``at`` without gradients, for ``step`` pixels at a time."""
        rows = _positions(values)
        for part in pixels.nonzero().split(step):
            corners, weights = self._corners(values.shape[-2:], part, values.dtype)
            yield _gather(rows, corners, weights)

    def sums_of_squares(self, values: Float[Tensor, "n c h w"]) -> Float[Tensor, " c"]:
        """Sum over all pixels of the squared upsampled values, for each channel, at the head's own resolution.

        Upsampling is linear and separable, x ↦ U_y x U_xᵀ. With U = QR and orthonormal columns of Q, ``Σ (U_y x U_xᵀ)²`` is
        ``Σ (R_y x R_xᵀ)²``, and R has no more rows than the head's map.
        """
        down, across = (_triangle(self, axis, values.shape[-2 + axis]).to(values) for axis in (0, 1))
        return (down @ values @ across.T).square().sum(dim=(0, 2, 3))

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
        padded = self.padded[axis]
        position = torch.arange(self.size[axis], dtype=torch.float64)
        if self.align_corners:
            source = position * ((length - 1) / max(1, padded - 1))
        else:
            source = ((position + 0.5) * (length / padded) - 0.5).clamp(min=0)
        first = source.floor().long().clamp(max=length - 1)
        return first, (first + 1).clamp(max=length - 1), source - first


def _positions(values: Float[Tensor, "n c h w"]) -> Float[Tensor, "positions c"]:
    """Values of all images, one row for each position; a view where memory allows."""
    return values.movedim(1, -1).reshape(-1, values.shape[1]).contiguous()


@lru_cache(maxsize=64)
def _triangle(upsampling: Upsampling, axis: int, length: int) -> Tensor:
    """R of the decomposition U = QR of one axis."""
    return torch.linalg.qr(upsampling.matrix(axis, length), mode="r").R


def _gather(rows: Tensor, chosen: Integer[Tensor, "results few"], weights: Tensor) -> Tensor:
    """Weighted sums of rows, a few rows for each result."""
    return F.embedding_bag(chosen, rows.contiguous(), mode="sum", per_sample_weights=weights)


def _scatter(results: Tensor, chosen: Integer[Tensor, "results few"], weights: Tensor, length: int) -> Tensor:
    """Adjoint of ``_gather``: for every row, the weighted sum of the results that it went into, in a fixed order."""
    per_row = torch.bincount(chosen.flatten(), minlength=length)
    order = chosen.flatten().argsort(stable=True)
    return F.embedding_bag(
        order // chosen.shape[1],
        results.contiguous(),
        per_row.cumsum(0) - per_row,
        mode="sum",
        per_sample_weights=weights.flatten()[order],
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, apply: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.maps = adjoint, apply
        return apply(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Linear.apply(gradient, *ctx.maps), None, None


def linear_map(values: Tensor, apply: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]) -> Tensor:
    """``apply(values)``; its gradient is the adjoint of the map, whose gradient is the map again."""
    return _Linear.apply(values, apply, adjoint)


def full_size(
    values: Float[Tensor, "n c h w"], size: Sequence[int], divisor: int = 1, align_corners: bool = False
) -> Float[Tensor, "n c H W"]:
    """Bilinear upsampling of a map over the padded image to the image's own size (h, w)."""
    padded = _padded(size, divisor)
    if divisor > 1 and not are_known(*padded):  # a cut at sizes that are not known yet would ask whether it cuts at all
        down, across = (
            interpolation(values.shape[axis], padded[axis], values, size[axis], align_corners) for axis in (-2, -1)
        )
        return down.t() @ (values @ across)
    if not are_known(*padded) or tuple(values.shape[-2:]) != padded:
        values = F.interpolate(values, padded, mode="bilinear", align_corners=align_corners)
    return values if divisor == 1 else values[..., : size[0], : size[1]]


def interpolation(
    inputs: int, outputs: int, like: Tensor, kept: int | None = None, align_corners: bool = False
) -> Float[Tensor, "inputs kept"]:
    """Linear interpolation of a line as a matrix.

    Args:
        inputs: Length of the line.
        outputs: Length that it is interpolated to.
        like: Gives device, and float64 where it is of that type; else the matrix is float32.
        kept: Length of the beginning that is kept; None for all.
        align_corners: As in ``torch.nn.functional.interpolate``.
    """
    kind: dict[str, Any] = {"dtype": torch.promote_types(like.dtype, torch.float32), "device": like.device}
    cells, places = torch.arange(inputs, **kind), torch.arange(outputs if kept is None else kept, **kind)
    if align_corners:
        source = places * ((inputs - 1) / (outputs - 1))
    else:
        source = ((places + 0.5) * (inputs / outputs) - 0.5).clamp(0, inputs - 1)
    return (1 - (source - cells[:, None]).abs()).clamp(min=0)


def are_known(*sides: Any) -> bool:
    """Whether sizes are numbers; False while a model is exported for any size, when no size may choose a path."""
    return all(isinstance(side, int) for side in sides)


def _padded(size: Sequence[int], divisor: int) -> tuple[int, int]:
    return (size[0], size[1]) if divisor == 1 else (size[0] + -size[0] % divisor, size[1] + -size[1] % divisor)
