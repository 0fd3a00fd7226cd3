"""A cosine classifier instead of a segmentation model's linear one."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from longtail.errors import ConfigError


class CosineConv2d(nn.Conv2d):
    """A convolution that gives the scaled cosine of its input patch and its weights, plus a bias.

    o_c = temperature <x / |x|, w_c / |w_c|> + b_c

    Arguments as of ``torch.nn.Conv2d``, for one group and stride 1; and the ``temperature``. The parameters have the
    names and shapes of the plain convolution's.

    Source: the pixels' form of ``classifiers.cosine.CosineClassifier``.
    """

    def __init__(self, *arguments: Any, temperature: float = 20.0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.groups != 1 or self.stride != (1, 1):
            raise ConfigError(
                f"a cosine classifier of {self.groups} groups and stride {self.stride}",
                fix="end the head in a convolution of one group and stride 1",
            )
        self.temperature = temperature

    def forward(self, input: Float[Tensor, "n channels h w"]) -> Float[Tensor, "n classes _ _"]:
        """Logits of a map."""
        exact = torch.float32 if input.dtype in (torch.float16, torch.bfloat16) else None
        length = torch.linalg.vector_norm(input, dim=1, keepdim=True, dtype=exact)
        if self.kernel_size != (1, 1):
            ones = length.new_ones(1, 1, *self.kernel_size)
            squares = F.conv2d(length.square(), ones, None, 1, self.padding, self.dilation)
            length = squares.clamp(min=1e-12).sqrt()
        directions = F.normalize(self.weight.flatten(1), dim=1, eps=1e-6).view_as(self.weight)
        products = F.conv2d(input, directions, None, 1, self.padding, self.dilation)
        logits = self.temperature * products / length.clamp(min=1e-6)
        return logits if self.bias is None else logits + self.bias.view(-1, 1, 1)

    def reset_parameters(self) -> None:
        """Small weights and no bias; only the weights' directions count."""
        nn.init.normal_(self.weight, std=0.01)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @classmethod
    def like(cls, layer: nn.Conv2d, **options: Any) -> "CosineConv2d":
        """A new one of the same shape, with its own weights."""
        return cls(**convolution_arguments(layer), **options)


def convolution_arguments(layer: nn.Conv2d) -> dict[str, Any]:
    """Arguments that make a convolution of the same shape."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    return {name: getattr(layer, name) for name in names} | {"bias": layer.bias is not None}
