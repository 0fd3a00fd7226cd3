"""Feature extractors on timm: any network that gives maps of stride 4, 8, 16 and 32."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from longtail.detection.backbones.extractor import FeatureExtractor
from longtail.errors import ConfigError, MissingDependencyError

_STRIDES = (4, 8, 16, 32)


class TimmFeatures(FeatureExtractor):
    """Maps of stride 4, 8, 16, 32 of a timm network.

    Args:
        name: Name in timm, for example ``resnet50``, ``resnest200e``, ``convnext_tiny``.
        pretrained: Fetch timm's weights.
        **options: Passed to ``timm.create_model``.

    Raises:
        ConfigError: timm has no such network, or the network has no such maps.
        MissingDependencyError: timm is not installed.
    """

    strides = _STRIDES

    def __init__(self, name: str, pretrained: bool = False, **options: Any) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise MissingDependencyError(f"backbone {name!r} needs timm", fix="pip install timm") from error
        if not timm.is_model(name):
            close = timm.list_models(f"*{name.split('.')[0][:6]}*")[:8]
            raise ConfigError(f"timm has no network {name!r}", fix=f"choose one of timm.list_models(), like {close}")
        try:
            self.network = timm.create_model(name, features_only=True, pretrained=pretrained, **options)
            feature_info: Any = self.network.feature_info
            reductions = feature_info.reduction()
            self.chosen = tuple(reductions.index(stride) for stride in _STRIDES)
        except (RuntimeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"{name!r} does not give feature maps of stride {_STRIDES}: {error}",
                fix="choose a hierarchical network such as a ResNet, ConvNeXt or Swin",
            ) from error
        self.channels = tuple(feature_info.channels()[i] for i in self.chosen)

    def stages(self) -> list[list[nn.Module]]:
        """See ``FeatureExtractor.stages``.

        Raises:
            ConfigError: The network does not show which of its modules lead to which map.
        """
        returned = getattr(self.network, "return_layers", None)
        names = [name for name, _ in self.network.named_children()]
        if not isinstance(returned, dict) or not set(returned) <= set(names):
            raise ConfigError(
                f"{type(self.network).__name__} does not show its stages",
                fix="freeze no stages, and no deformable convolutions, or use a network whose features timm unrolls",
            )
        ends = [names.index(list(returned)[i]) + 1 for i in self.chosen]
        children = list(self.network.children())
        return [children[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """Feature maps, finest first."""
        maps = self.network(image)
        return [maps[i] for i in self.chosen]
