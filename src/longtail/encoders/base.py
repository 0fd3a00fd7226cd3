"""What decoders know of an encoder."""

from torch import nn


class Encoder(nn.Module):
    """Normalised image (n, bands, h, w) -> list of feature maps (n, c, h / stride, w / stride), shallow to deep.

    Attributes:
        channels: Channels of each feature map.
        reductions: Stride of each feature map.
        size_divisor: The image's sides must be multiples of this.
        unused_weights: Starts of the names, in files of weights, of layers that classify only.
    """

    channels: tuple[int, ...]
    reductions: tuple[int, ...]
    size_divisor: int = 1
    unused_weights: tuple[str, ...] = ()
