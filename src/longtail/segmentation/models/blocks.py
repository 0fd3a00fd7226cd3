"""The convolution blocks that the decoders share."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from longtail.encoders import Encoder
from longtail.segmentation.encoder_decoder import EncoderDecoder, Features
from longtail.segmentation.models.folding import convolve_resized
from longtail.shapes import ClassMaps


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, ReLU; the size stays.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Odd kernel size.
        dilation: Spacing of the kernel's taps.
        groups: Groups of the convolution; ``inputs`` for a depthwise one.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, *, dilation: int = 1, groups: int = 1) -> None:
        conv = nn.Conv2d(
            inputs, outputs, kernel, padding=kernel // 2 * dilation, dilation=dilation, groups=groups, bias=False
        )
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))

    def of_resized(
        self, maps: Sequence[Float[Tensor, "n _ _ _"]], size: Sequence[int]
    ) -> Float[Tensor, "n outputs H W"]:
        """``self`` of the maps, brought to one size and concatenated, without that concatenation; see ``convolve_resized``.

        Args:
            maps: Maps of any sizes, which have ``inputs`` channels together.
            size: Height and width of the result.
        """
        return self.of_convolved(convolve_resized(maps, self.weights_of([m.shape[1] for m in maps]), size))

    def weights_of(self, channels: Sequence[int]) -> Sequence[Float[Tensor, "outputs _ k k"]]:
        """The convolution's weights, split into those of maps with so many channels each."""
        weight = self[0].weight
        assert isinstance(weight, Tensor)
        return weight.split(list(channels), dim=1)

    def of_convolved(self, values: Float[Tensor, "n outputs h w"]) -> Float[Tensor, "n outputs h w"]:
        """Norm and activation of the convolution's output."""
        return self[2](self[1](values))


class SeparableConv(nn.Sequential):
    """Depthwise 3x3 then pointwise 1x1, each with batch norm and ReLU.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        dilation: Dilation of the depthwise convolution.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__(ConvNormAct(inputs, inputs, 3, dilation=dilation, groups=inputs), ConvNormAct(inputs, outputs))


class FCNHead(nn.Module):
    """3x3 convolution, dropout and classifier on the last feature map but one: the auxiliary head of the common recipes.

    Args:
        inputs: Channels of the map.
        num_classes: Number of classes C.
        channels: Channels of the convolution.
        dropout: Share of channels dropped before the classifier.
    """

    def __init__(self, inputs: int, num_classes: int, *, channels: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.conv = ConvNormAct(inputs, channels, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(channels, num_classes)

    def forward(self, features: Features) -> ClassMaps:
        """Auxiliary logits at the map's resolution."""
        return self.classifier(self.dropout(self.conv(features[-2])))


def classifier(channels: int, num_classes: int) -> nn.Conv2d:
    """The 1x1 convolution that ends a model, its weights drawn from N(0, 0.01²)."""
    conv = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, 0.0)  # type: ignore[arg-type]  # there is one
    return conv


def on_encoder(
    network: Encoder,
    decoder: nn.Module,
    channels: int,
    num_classes: int,
    fcn_channels: int | None = None,
    dropout: float = 0.1,
    auxiliary_weight: float = 0.4,
) -> EncoderDecoder:
    """An encoder, a decoder that gives ``channels``, a 1x1 classifier and, if it has channels, an FCN head as one model."""
    head, fcn = classifier(channels, num_classes), None
    if fcn_channels is not None:
        fcn = FCNHead(network.channels[-2], num_classes, channels=fcn_channels, dropout=dropout)
    return EncoderDecoder(
        network,
        decoder,
        head,
        num_classes=num_classes,
        auxiliary_head=fcn,
        auxiliary_weight=auxiliary_weight,
        size_divisor=network.size_divisor,
    )
