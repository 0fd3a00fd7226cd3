"""The contract of a segmentation model: encoder -> decoder -> head."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from longtail.pixels import are_known, full_size
from longtail.shapes import ClassMaps, Images

#: What an encoder returns: feature maps, shallow to deep; strides and channels are the model's own affair.
Features = Sequence[Tensor]


class ExpertOutput(NamedTuple):
    """Outputs of a decoder and its head for a batch, at the head's own resolution.

    Attributes:
        logits: (n, classes, h, w).
        decoded: (n, channels, h, w), input of the classifier.
        auxiliary: Other logits (n, classes, h', w') inside the decoder that are trained on the same target
            (OCRNet's soft regions); usually none.
    """

    logits: Tensor
    decoded: Tensor
    auxiliary: tuple[Tensor, ...] = ()


class Expert(nn.Module):
    """A context module and its classifier: the unit that MEDOE has K of (ψ_i and h_i of Eq. 2).

    Args:
        decoder: features -> (n, channels, h, w), or a pair of that and a tuple of auxiliary logits.
        head: (n, channels, h, w) -> logits (n, classes, h, w). It does not upsample.
    """

    def __init__(self, decoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.head = head

    def forward(self, features: Features) -> ExpertOutput:
        """Decode the features and classify each position."""
        decoded, auxiliary = decode(self.decoder, features)
        return ExpertOutput(self.head(decoded), decoded, auxiliary)


def decode(decoder: nn.Module, features: Features) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Output of a decoder (see ``Expert``), and its auxiliary logits, if any."""
    decoded = decoder(features)
    decoded, auxiliary = decoded if isinstance(decoded, tuple) else (decoded, ())
    return decoded, tuple(auxiliary)


class EncoderDecoder(nn.Module):
    """Any encoder-decoder segmentation model, split where the methods need it.

    Args:
        encoder: Normalised image (n, bands, h, w) -> features.
        decoder: See ``Expert``.
        head: See ``Expert``.
        num_classes: Number of classes C of the head.
        auxiliary_head: features -> auxiliary logits (n, classes, h', w') that also train the encoder (the FCN head of
            the common recipes); None where the recipe has none.
        auxiliary_weight: Weight of every auxiliary loss, of this head and of the decoder's own.
        align_corners: How the model's own upsampling to the image's size samples.
        size_divisor: Images are padded right and below, with zeros (the mean colour), to a multiple of this.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        head: nn.Module,
        *,
        num_classes: int,
        auxiliary_head: nn.Module | None = None,
        auxiliary_weight: float = 0.4,
        align_corners: bool = False,
        size_divisor: int = 1,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.expert = Expert(decoder, head)
        self.auxiliary_head = auxiliary_head
        self.num_classes = num_classes
        self.auxiliary_weight = auxiliary_weight
        self.align_corners = align_corners
        self.size_divisor = size_divisor

    def encode(self, image: Images) -> Features:
        """Features of the (padded) image."""
        return self.encoder(pad_to_multiple(image, self.size_divisor))

    def forward(self, image: Images) -> ClassMaps:
        """Logits at the image's size, equal to the wrapped model's."""
        logits = self.expert(self.encode(image)).logits
        return full_size(logits, image.shape[-2:], self.size_divisor, self.align_corners)


def pad_to_multiple(image: Float[Tensor, "n c h w"], divisor: int) -> Float[Tensor, "n c hp wp"]:
    """Pad right and below with zeros until both sides are multiples of ``divisor``."""
    if divisor == 1:
        return image
    height, width = image.shape[-2:]
    down, right = -height % divisor, -width % divisor
    return F.pad(image, (0, right, 0, down)) if not are_known(height, width) or down or right else image
