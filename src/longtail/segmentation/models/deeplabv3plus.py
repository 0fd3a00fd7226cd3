"""DeepLabv3+: separable atrous pyramid over the deepest map, refined with a low-level one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtail.encoders import build_encoder
from longtail.segmentation.encoder_decoder import EncoderDecoder, Features
from longtail.segmentation.models.blocks import ConvNormAct, SeparableConv, on_encoder
from longtail.segmentation.models.resampling import resize


class ASPP(nn.Module):
    """Atrous spatial pyramid: separable convolutions at several dilations and the image's mean, fused.

    Args:
        inputs: Channels of the map.
        channels: Channels of every branch and of the result.
        dilations: Dilation of each branch; 1 is a 1x1 convolution.

    Note:
        In training mode the batch must hold more than one image: the mean has one value per channel and image, and batch
        norm needs two.

    Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution", sec. 3.
    """

    def __init__(self, inputs: int, channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.pool = ConvNormAct(inputs, channels)
        self.branches = nn.ModuleList(
            ConvNormAct(inputs, channels) if d == 1 else SeparableConv(inputs, channels, d) for d in dilations
        )
        self.fuse = ConvNormAct((len(dilations) + 1) * channels, channels, 3)

    def forward(self, x: Float[Tensor, "n inputs h w"]) -> Float[Tensor, "n channels h w"]:
        """Context at the map's own resolution."""
        pooled, *branches = self._maps(x)
        return self.fuse.of_resized([pooled, torch.cat(branches, dim=1)], x.shape[-2:])

    def _maps(self, x: Tensor) -> list[Tensor]:
        return [self.pool(x.mean((2, 3), keepdim=True)), *(branch(x) for branch in self.branches)]


class DeepLabV3PlusDecoder(nn.Module):
    """ASPP on the deepest map, upsampled to the low-level map and refined by two separable convolutions.

    Args:
        encoder_channels: Channels of the encoder's maps.
        low_level: Index of the low-level map.
        channels: Channels of the context and of the result.
        low_level_channels: Channels that the low-level map is squeezed to.
        dilations: See ``ASPP``.
        dropout: Share of channels dropped from the result.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        low_level: int,
        *,
        channels: int,
        low_level_channels: int,
        dilations: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.low_level = low_level
        self.aspp = ASPP(encoder_channels[-1], channels, dilations)
        self.squeeze = ConvNormAct(encoder_channels[low_level], low_level_channels)
        self.refine = nn.Sequential(
            SeparableConv(channels + low_level_channels, channels), SeparableConv(channels, channels)
        )
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Features) -> Float[Tensor, "n channels h w"]:
        """Decoded features at the low-level map's resolution."""
        low = self.squeeze(features[self.low_level])
        joined = torch.cat([resize(self.aspp(features[-1]), low.shape[-2:]), low], dim=1)
        return self.dropout(self.refine(joined))


def deeplabv3plus(
    num_classes: int,
    *,
    encoder: str = "resnet50c",
    output_stride: int = 8,
    channels: int = 512,
    low_level_channels: int = 48,
    low_level_stride: int = 4,
    dilations: Sequence[int] | None = None,
    dropout: float = 0.1,
    auxiliary: bool = True,
    auxiliary_channels: int = 256,
    auxiliary_weight: float = 0.4,
    encoder_options: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
) -> EncoderDecoder:
    """DeepLabv3+ on any encoder; the defaults are the paper's recipe.

    For two CPU cores: ``encoder="torchvision/mobilenet_v2", output_stride=16, channels=128``.

    Args:
        num_classes: Number of classes C.
        encoder: See ``build_encoder``; the paper uses ``resnet50c`` and ``resnet101c``.
        output_stride: Stride of the deepest map.
        channels: Channels of the context and of the decoder.
        low_level_channels: Channels that the low-level map is squeezed to.
        low_level_stride: Stride of the low-level map.
        dilations: Dilations of the pyramid; None for (1, 12, 24, 36) at stride 8, halved at each doubling of it.
        dropout: Share of channels dropped before the classifier.
        auxiliary: Train the encoder's last but one map too, through an FCN head.
        auxiliary_channels: Channels of that head.
        auxiliary_weight: Weight of its loss.
        encoder_options: Other arguments of the encoder.
        weights: Of the encoder: see ``build_encoder``.

    Source: Chen et al. 2018; sizes of mmsegmentation's DeepLabv3+ (output stride 8, 512 channels).
    """
    network = build_encoder(encoder, output_stride, weights=weights, **(encoder_options or {}))
    scale = max(1, output_stride // 8)
    decoder = DeepLabV3PlusDecoder(
        network.channels,
        nearest_stride(network.reductions, low_level_stride),
        channels=channels,
        low_level_channels=low_level_channels,
        dilations=dilations or (1, 12 // scale, 24 // scale, 36 // scale),
        dropout=dropout,
    )
    fcn = auxiliary_channels if auxiliary else None
    return on_encoder(network, decoder, channels, num_classes, fcn, dropout, auxiliary_weight)


def nearest_stride(reductions: Sequence[int], stride: int) -> int:
    """Index of the map whose stride is nearest to ``stride``; the deepest of equals."""
    return min(range(len(reductions)), key=lambda i: (abs(reductions[i] - stride), -i))
