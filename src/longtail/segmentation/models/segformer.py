"""SegFormer: all maps projected to one width, brought to one size, and fused per pixel."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from longtail.encoders import build_encoder
from longtail.segmentation.encoder_decoder import EncoderDecoder, Features
from longtail.segmentation.models.blocks import ConvNormAct, on_encoder
from longtail.segmentation.models.folding import convolve_projected
from longtail.settings import one_of

Projection = Literal["linear", "conv"]


class MLPDecoder(nn.Module):
    """SegFormer's decoder, in either of its two published forms.

    Args:
        encoder_channels: Channels of the encoder's maps.
        channels: Channels of each projection and of the result.
        projection: ``linear``: each map goes through a linear layer alone, as in the authors' code and transformers;
            ``conv``: through a 1x1 convolution with batch norm and ReLU, as in mmsegmentation.
        dropout: Probability of dropping: a value (``linear``) or a channel (``conv``), as in the two.
        start: First of the encoder's maps to read.

    Source: Xie et al., "SegFormer", sec. 3.2.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        channels: int,
        projection: Projection = "linear",
        dropout: float = 0.1,
        start: int = 0,
    ) -> None:
        super().__init__()
        self.start = start
        one_of("projection", projection, get_args(Projection))
        project = ConvNormAct if projection == "conv" else lambda inputs, outputs: nn.Conv2d(inputs, outputs, 1)
        self.projections = nn.ModuleList(project(c, channels) for c in encoder_channels[start:])
        self.fuse = ConvNormAct(len(self.projections) * channels, channels)
        self.dropout = nn.Dropout(dropout) if projection == "linear" else nn.Dropout2d(dropout)

    def forward(self, features: Features) -> Float[Tensor, "n channels h w"]:
        """Decoded features at the resolution of the first map read."""
        maps = list(features)[self.start :]
        size = maps[0].shape[-2:]
        linear = [p for p in self.projections if isinstance(p, nn.Conv2d)]
        if not linear:
            return self.dropout(self.fuse.of_resized(self._projected(maps), size))
        weights = self.fuse.weights_of([p.out_channels for p in linear])
        return self.dropout(self.fuse.of_convolved(convolve_projected(maps, linear, weights, size)))

    def _projected(self, maps: Features) -> list[Tensor]:
        return [projection(m) for projection, m in zip(self.projections, maps, strict=True)]


def segformer(
    num_classes: int,
    *,
    encoder: str = "mit_b3",
    projection: Projection = "linear",
    channels: int | None = None,
    dropout: float = 0.1,
    encoder_options: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
) -> EncoderDecoder:
    """SegFormer on a Mix Transformer or any other encoder; the defaults are the paper's SegFormer-B3.

    Args:
        num_classes: Number of classes C.
        encoder: ``mit_b0`` … ``mit_b5``, or see ``build_encoder``.
        projection: Form of the decoder: see ``MLPDecoder``.
        channels: Width of the decoder; None for the published one: 768 (``linear``; 256 on B0 and B1) or 256 (``conv``).
        dropout: See ``MLPDecoder``.
        encoder_options: Other arguments of the encoder.
        weights: Of the encoder: see ``build_encoder``. NVIDIA's published MiT weights are for non-commercial use only;
            they are never taken unless you ask for them.

    Source: Xie et al. 2021.
    """
    network = build_encoder(encoder, weights=weights, **(encoder_options or {}))
    if channels is None:
        channels = 256 if projection == "conv" or encoder in ("mit_b0", "mit_b1") else 768
    start = next((i for i, reduction in enumerate(network.reductions) if reduction >= 4), 0)
    decoder = MLPDecoder(network.channels, channels, projection, dropout, start)
    return on_encoder(network, decoder, channels, num_classes)
