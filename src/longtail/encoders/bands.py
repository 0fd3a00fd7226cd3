"""Networks for RGB made to read another number of bands."""

import torch
from torch import nn

from longtail.errors import ConfigError

_RGB = 3


def adapt_bands(network: nn.Module, bands: int) -> None:
    """Let the first convolution of a network read so many bands, in place.

    Its weights are summed over RGB for one band; for others they are repeated over the bands and scaled by 3 / bands,
    as timm does. The rest of the weights stays.

    Args:
        network: Reads RGB; one that already reads ``bands`` is not changed.
        bands: Number of bands.

    Raises:
        ConfigError: It has no convolution, or several, that could be the first.
    """
    if bands == _RGB:
        return
    from timm.models import adapt_input_conv

    first = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.in_channels == _RGB and m.groups == 1]
    if len(first) != 1:
        raise ConfigError(
            f"{len(first)} convolutions of {type(network).__name__} read 3 channels: which of them reads {bands} bands?",
            fix="choose another encoder, or build your own network for these bands",
        )
    convolution = first[0]
    weight = adapt_input_conv(bands, convolution.weight.detach())
    convolution.weight = nn.Parameter(weight.clone(memory_format=torch.contiguous_format))  # no view: it is saved
    convolution.in_channels = bands
    for module in network.modules():  # transformers compares the image with its configuration
        if getattr(module, "num_channels", None) == _RGB:
            module.num_channels = bands  # type: ignore[assignment]
