"""From pixels to the normalised image that a network reads, as the first layer of a graph."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

#: Largest value of a byte, which normalisation takes for 1.
_WHITE = 255.0


class Normalise(nn.Module):
    """Pixels (n, bands, h, w) -> normalised image: bytes, or float32 in 0 … 1 where the photographs are read so.

    Args:
        input: ``mean``, ``std`` and ``value_range`` of the model's input.
    """

    def __init__(self, input: Mapping[str, Any]) -> None:
        super().__init__()
        self.bytes = input.get("value_range") is None
        mean, std = (torch.tensor(input[name], dtype=torch.float32).view(-1, 1, 1) for name in ("mean", "std"))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, pixels: Tensor) -> Tensor:
        """The normalised image."""
        values = pixels.float() / _WHITE if self.bytes else pixels
        return (values - self.mean) / self.std

    def example(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Random pixels of the kind that ``forward`` takes."""
        if self.bytes:
            return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return torch.rand(shape, generator=generator)
