"""Bilinear upsampling as an object: whole maps, single pixels, or sums over all pixels, without the map where it can be."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from longtail.segmentation.encoder_decoder import full_size


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

    def __call__(self, values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c H W"]:
        """The whole map at the image's size."""
        return full_size(values, self.size, self.divisor, self.align_corners)

    def at(self, values: Float[Tensor, "n c h w"], pixels: Bool[Tensor, "n H W"]) -> Float[Tensor, "pixels c"]:
        """Upsampled values at some pixels alone, in the order of ``pixels.nonzero()``.

        Equals ``self(values).movedim(1, -1)[pixels]``; its cost is that of the pixels asked for.
        """
        if tuple(values.shape[-2:]) == self.size:
            return values.movedim(1, -1)[pixels]
        image, y, x = pixels.nonzero(as_tuple=True)
        height, width = values.shape[-2:]
        rows = values.movedim(1, -1).reshape(-1, values.shape[1])
        (top, bottom, down), (left, right, across) = (
            tuple(part[index] for part in self._taps(axis, values)) for axis, index in ((0, y), (1, x))
        )
        corners = (
            (top, left, (1 - down) * (1 - across)),
            (top, right, (1 - down) * across),
            (bottom, left, down * (1 - across)),
            (bottom, right, down * across),
        )
        total = torch.zeros(len(image), values.shape[1], dtype=values.dtype, device=values.device)
        for row, column, weight in corners:
            total = total + rows[(image * height + row) * width + column] * weight.unsqueeze(1)
        return total

    def sums_of_squares(self, values: Float[Tensor, "n c h w"]) -> Float[Tensor, " c"]:
        """Sum over all pixels of the squared upsampled values, for each channel.

        Upsampling is linear and separable, x ↦ U_y x U_xᵀ, so ``Σ (U_y x U_xᵀ)² = <x, G_y x G_x>`` with G = UᵀU: two
        products at the head's own resolution, and no map of the image's size.
        """
        gram_y, gram_x = (self._gram(axis, values) for axis in (0, 1))
        return (gram_y @ values @ gram_x * values).sum(dim=(0, 2, 3))

    def _taps(self, axis: int, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For every pixel along an axis: its two source positions, and the weight of the second."""
        length = values.shape[-2 + axis]
        wanted = self.size[axis]
        padded = wanted + -wanted % self.divisor
        position = torch.arange(wanted, device=values.device, dtype=torch.float64)
        if self.align_corners:
            source = position * ((length - 1) / max(1, padded - 1))
        else:
            source = ((position + 0.5) * (length / padded) - 0.5).clamp(min=0)
        first = source.floor().long().clamp(max=length - 1)
        return first, (first + 1).clamp(max=length - 1), (source - first).to(values.dtype)

    def _gram(self, axis: int, values: Tensor) -> Tensor:
        first, second, weight = self._taps(axis, values)
        matrix = values.new_zeros(len(first), values.shape[-2 + axis])
        matrix.scatter_add_(1, first.unsqueeze(1), (1 - weight).unsqueeze(1))
        matrix.scatter_add_(1, second.unsqueeze(1), weight.unsqueeze(1))
        return matrix.T @ matrix
