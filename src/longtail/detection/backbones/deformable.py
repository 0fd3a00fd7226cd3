"""Modulated deformable convolutions in place of ordinary ones."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class DeformableConv2d(nn.Module):
    """A convolution whose taps are moved and weighted depending on the image (DCNv2).

    Offsets start at 0 and weights at 1, so that the layer begins as the convolution it replaces. (The paper's weights
    start at 1/2, which halves the features of a pretrained network; twice a sigmoid removes that.)

    Args:
        convolution: The layer to replace; its weight and bias are kept, under the same names.

    Source: Deformable ConvNets v2 (Zhu 2019), Eq. 1.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight = convolution.weight
        self.bias = convolution.bias
        pairs: dict[str, Any] = {k: getattr(convolution, k) for k in ("stride", "padding", "dilation")}
        self.stride, self.padding, self.dilation = pairs.values()
        self.taps = convolution.kernel_size[0] * convolution.kernel_size[1]
        size: Any = convolution.kernel_size
        self.offsets = nn.Conv2d(
            convolution.in_channels, 3 * self.taps, size, device=convolution.weight.device, **pairs
        )
        for parameter in self.offsets.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        """Convolve at the moved taps, in float32 (the operator has no reduced precision on every device)."""
        moved = self.offsets(features).float()
        offset, strength = moved.split([2 * self.taps, self.taps], dim=1)
        with torch.autocast(features.device.type, enabled=False):
            return deform_conv2d(
                features.float(),
                offset.contiguous(),
                self.weight.float(),
                None if self.bias is None else self.bias.float(),
                self.stride,
                self.padding,
                self.dilation,
                2 * strength.sigmoid(),
            )


def make_deformable(modules: Iterable[nn.Module]) -> int:
    """Replace every 3x3 convolution inside the modules; returns how many."""
    replaced = 0
    for module in modules:
        for parent in [m for m in module.modules() if not isinstance(m, DeformableConv2d)]:
            for name, child in list(parent.named_children()):
                if type(child) is nn.Conv2d and child.kernel_size == (3, 3):
                    setattr(parent, name, DeformableConv2d(child))
                    replaced += 1
    return replaced
