"""Feature extractors on the library's encoders: any timm network with maps of stride 4, 8, 16 and 32, and MiT."""

from jaxtyping import Float
from torch import Tensor, nn

from longtail.detection.backbones.extractor import FeatureExtractor
from longtail.encoders.base import Encoder
from longtail.errors import ConfigError

_STRIDES = (4, 8, 16, 32)


class EncoderFeatures(FeatureExtractor):
    """Maps of stride 4, 8, 16, 32 of an encoder.

    Args:
        encoder: The encoder; maps of other strides are left out.

    Raises:
        ConfigError: The encoder has no such maps.
    """

    strides = _STRIDES

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        if not set(_STRIDES) <= set(encoder.reductions):
            raise ConfigError(
                f"the encoder's maps have strides {encoder.reductions}, a feature pyramid needs {_STRIDES}",
                fix="choose a hierarchical network such as a ResNet, ConvNeXt or Swin",
            )
        self.encoder = encoder
        self.chosen = tuple(encoder.reductions.index(stride) for stride in _STRIDES)
        self.channels = tuple(encoder.channels[i] for i in self.chosen)

    def stages(self) -> list[list[nn.Module]]:
        """See ``FeatureExtractor.stages``.

        Raises:
            ConfigError: The network does not show which of its modules lead to which map.
        """
        body = getattr(self.encoder, "body", self.encoder)
        returned = getattr(body, "return_layers", None)
        names = [name for name, _ in body.named_children()]
        if not isinstance(returned, dict) or not set(returned) <= set(names):
            raise ConfigError(
                f"{type(body).__name__} does not show its stages",
                fix="freeze no stages and use no deformable convolutions, or choose a network that timm unrolls",
            )
        ends = [names.index(list(returned)[i]) + 1 for i in self.chosen]
        children = list(body.children())
        return [children[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]

    def forward(self, image: Float[Tensor, "n bands h w"]) -> list[Tensor]:
        """Feature maps, finest first."""
        maps = self.encoder(image)
        return [maps[i] for i in self.chosen]
