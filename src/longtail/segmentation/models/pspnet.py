"""PSPNet: pyramid pooling over the deepest map."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from longtail.encoders import build_encoder
from longtail.segmentation.encoder_decoder import EncoderDecoder, Features
from longtail.segmentation.models.blocks import ConvNormAct, on_encoder
from longtail.segmentation.models.resampling import mean_cells


class PyramidPoolingDecoder(nn.Module):
    """The deepest map and its means over grids of several sizes, fused by a 3x3 convolution.

    Args:
        inputs: Channels of the map.
        channels: Channels of each pooled branch and of the result.
        bins: Side of each grid.
        dropout: Share of channels dropped from the result.

    Note:
        In training mode the batch must hold more than one image: a grid of one cell has one value per channel and image,
        and batch norm needs two.

    Source: Zhao et al., "Pyramid Scene Parsing Network", sec. 3.2.
    """

    def __init__(self, inputs: int, channels: int, bins: Sequence[int] = (1, 2, 3, 6), dropout: float = 0.1) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.branches = nn.ModuleList(ConvNormAct(inputs, channels) for _ in self.bins)
        self.fuse = ConvNormAct(inputs + len(self.bins) * channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Features) -> Float[Tensor, "n channels h w"]:
        """Decoded features at the deepest map's resolution."""
        maps = self._maps(features)
        return self.dropout(self.fuse.of_resized(maps, maps[0].shape[-2:]))

    def _maps(self, features: Features) -> list[Tensor]:
        x = features[-1]
        return [x, *(b(mean_cells(x, side)) for side, b in zip(self.bins, self.branches, strict=True))]


def pspnet(
    num_classes: int,
    *,
    encoder: str = "resnet50c",
    output_stride: int = 8,
    channels: int = 512,
    bins: Sequence[int] = (1, 2, 3, 6),
    dropout: float = 0.1,
    auxiliary: bool = True,
    auxiliary_channels: int = 256,
    auxiliary_weight: float = 0.4,
    encoder_options: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
) -> EncoderDecoder:
    """PSPNet on any encoder; the defaults are the paper's recipe.

    Args:
        num_classes: Number of classes C.
        encoder: See ``build_encoder``; the paper uses ``resnet50c`` and ``resnet101c``.
        output_stride: Stride of the deepest map.
        channels: Channels of the pooled branches and of the decoder.
        bins: Side of each pooling grid.
        dropout: Share of channels dropped before the classifier.
        auxiliary: Train the encoder's last but one map too, through an FCN head.
        auxiliary_channels: Channels of that head.
        auxiliary_weight: Weight of its loss.
        encoder_options: Other arguments of the encoder.
        weights: Of the encoder: see ``build_encoder``.

    Source: Zhao et al. 2017.
    """
    network = build_encoder(encoder, output_stride, weights=weights, **(encoder_options or {}))
    decoder = PyramidPoolingDecoder(network.channels[-1], channels, bins, dropout)
    fcn = auxiliary_channels if auxiliary else None
    return on_encoder(network, decoder, channels, num_classes, fcn, dropout, auxiliary_weight)
