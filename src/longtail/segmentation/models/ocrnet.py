"""OCRNet: every pixel reads a summary of each class's soft region."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtail.encoders import build_encoder
from longtail.errors import ConfigError
from longtail.segmentation.encoder_decoder import EncoderDecoder, Features
from longtail.segmentation.models.blocks import ConvNormAct, classifier, on_encoder
from longtail.shapes import ClassMaps


class ObjectAttention(nn.Module):
    """Attention of the pixels to the class regions.

    Args:
        channels: Channels of pixels, regions and result.
        inner: Channels of queries, keys and values.

    Source: Yuan et al., "Object-Contextual Representations", Eqs. 3-5.
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.query = nn.Sequential(ConvNormAct(channels, inner), ConvNormAct(inner, inner))
        self.key = nn.Sequential(ConvNormAct(channels, inner), ConvNormAct(inner, inner))
        self.value = ConvNormAct(channels, inner)
        self.out = ConvNormAct(inner, channels)
        self.fuse = ConvNormAct(2 * channels, channels)
        self.scale = inner**-0.5

    def forward(
        self, pixels: Float[Tensor, "n channels h w"], regions: Float[Tensor, "n channels classes 1"]
    ) -> Float[Tensor, "n channels h w"]:
        """Pixels with the context of the regions that they resemble."""
        query, key, value = (f.flatten(2) for f in (self.query(pixels), self.key(regions), self.value(regions)))
        relation = torch.einsum("ncp,nck->npk", query, key).mul(self.scale).softmax(-1)
        context = torch.einsum("npk,nck->ncp", relation, value).unflatten(2, pixels.shape[-2:])
        return self.fuse(torch.cat([self.out(context), pixels], dim=1))


class OCRDecoder(nn.Module):
    """Soft regions from a plain classifier, their mean features, and the pixels' attention to them.

    Args:
        inputs: Channels of all the encoder's maps together.
        num_classes: Number of classes C, and of regions.
        channels: Channels of pixels and regions.
        attention_channels: Channels of the attention.
        start: First of the encoder's maps to read; the others are brought to its size.

    Source: Yuan et al., "Object-Contextual Representations", sec. 3.
    """

    def __init__(self, inputs: int, num_classes: int, channels: int, attention_channels: int, start: int = 0) -> None:
        super().__init__()
        self.start = start
        self.soft_regions = nn.Sequential(ConvNormAct(inputs, inputs), classifier(inputs, num_classes))
        self.pixels = ConvNormAct(inputs, channels, 3)
        self.attention = ObjectAttention(channels, attention_channels)

    def forward(self, features: Features) -> tuple[Float[Tensor, "n channels h w"], tuple[ClassMaps]]:
        """Decoded features, and the logits of the soft regions, which are trained on the same target."""
        maps = list(features)[self.start :]
        mix, classify, size = self.soft_regions[0], self.soft_regions[1], maps[0].shape[-2:]
        assert isinstance(mix, ConvNormAct)
        return self._attend(classify(mix.of_resized(maps, size)), self.pixels.of_resized(maps, size))

    def _attend(self, logits: Tensor, pixels: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        shares = logits.flatten(2).softmax(-1)  # of each region, over the image's pixels
        regions = torch.einsum("nkp,ncp->nck", shares, pixels.flatten(2)).unsqueeze(-1)
        return self.attention(pixels, regions), (logits,)


def ocrnet(
    num_classes: int,
    *,
    encoder: str = "hrnet_w48",
    channels: int = 512,
    attention_channels: int = 256,
    stride: int = 4,
    auxiliary_weight: float = 0.4,
    encoder_options: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
) -> EncoderDecoder:
    """OCRNet on HRNet or any other encoder; the defaults are the paper's recipe.

    Args:
        num_classes: Number of classes C.
        encoder: See ``build_encoder``; of an HRNet the four branches (48, 96, 192, 384 channels for W48) are taken.
        channels: Channels of pixels, regions and decoder.
        attention_channels: Channels of the attention.
        stride: The encoder's maps from this stride on are brought to one size and read together.
        auxiliary_weight: Weight of the soft regions' loss.
        encoder_options: Other arguments of the encoder (``output_stride`` among them).
        weights: Of the encoder: see ``build_encoder``.

    Raises:
        ConfigError: The encoder has no map at ``stride`` or deeper.

    Source: Yuan et al. 2020, sec. 4.
    """
    branches = {"feature_location": "", "out_indices": (1, 2, 3, 4)} if encoder.startswith("hrnet") else {}
    network = build_encoder(encoder, weights=weights, **branches | dict(encoder_options or {}))
    deep = [i for i, reduction in enumerate(network.reductions) if reduction >= stride]
    if not deep:
        raise ConfigError(
            f"{encoder} has maps at strides {network.reductions}, none at {stride} or deeper",
            fix=f"choose a stride up to {network.reductions[-1]}",
        )
    decoder = OCRDecoder(sum(network.channels[deep[0] :]), num_classes, channels, attention_channels, deep[0])
    return on_encoder(network, decoder, channels, num_classes, auxiliary_weight=auxiliary_weight)
