"""What decoders know of an encoder."""

from pathlib import Path

from torch import nn

from longtail.encoders.weights import load_encoder_weights
from longtail.errors import ConfigError


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

    def load_published(self) -> None:
        """Take the weights that its authors publish.

        Raises:
            ConfigError: There are none.
        """
        raise ConfigError(f"{type(self).__name__} has no published weights", fix="give a file of weights, or none")

    def load_file(self, path: str | Path) -> None:
        """Take the weights of a local file.

        Raises:
            CheckpointError: They do not fit.
        """
        load_encoder_weights(self, path)
