"""Feature extractors on torchvision's image networks; their parameter names, so that its weights load."""

from collections.abc import Callable
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn
from torchvision import models
from torchvision.models import list_models

from longtail.detection.backbones.extractor import FeatureExtractor


class ResNetFeatures(FeatureExtractor):
    """Maps of stride 4, 8, 16, 32 of a torchvision ResNet, ResNeXt or wide ResNet.

    Args:
        network: The network; its classifier is not used and not kept.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            self.add_module(name, getattr(network, name))
        width = cast(nn.Linear, network.fc).in_features
        self.channels = tuple(width // 2**k for k in (3, 2, 1, 0))

    def stages(self) -> list[list[nn.Module]]:
        """See ``FeatureExtractor.stages``."""
        m = dict(self.named_children())
        stem = [m["conv1"], m["bn1"], m["relu"], m["maxpool"], m["layer1"]]
        return [stem, [m["layer2"]], [m["layer3"]], [m["layer4"]]]

    def forward(self, image: Float[Tensor, "n bands h w"]) -> list[Tensor]:
        """Feature maps, finest first."""
        return _in_turn(self.stages(), image)


class MobileNetV2Features(FeatureExtractor):
    """Maps of stride 4, 8, 16, 32 of torchvision's MobileNetV2; the last one after its final convolution.

    Args:
        network: The network; its classifier is not used and not kept.
    """

    strides = (4, 8, 16, 32)
    #: Index after the last block of each stride.
    _ENDS = (4, 7, 14, 19)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.features = cast(nn.Sequential, network.features)
        self.channels = tuple(_out_channels(self.features[end - 1]) for end in self._ENDS)

    def stages(self) -> list[list[nn.Module]]:
        """See ``FeatureExtractor.stages``."""
        starts = (0, *self._ENDS[:-1])
        return [list(self.features[a:b]) for a, b in zip(starts, self._ENDS, strict=True)]

    def forward(self, image: Float[Tensor, "n bands h w"]) -> list[Tensor]:
        """Feature maps, finest first."""
        return _in_turn(self.stages(), image)


def _in_turn(stages: list[list[nn.Module]], values: Tensor) -> list[Tensor]:
    maps = []
    for stage in stages:
        for module in stage:
            values = module(values)
        maps.append(values)
    return maps


def _out_channels(block: nn.Module) -> int:
    return [m for m in block.modules() if isinstance(m, nn.Conv2d)][-1].out_channels


#: Name in torchvision -> extractor on the network of that name.
NETWORKS: dict[str, Callable[[nn.Module], FeatureExtractor]] = {
    "mobilenet_v2": MobileNetV2Features,
    **dict.fromkeys(list_models(models, include=["resnet*", "resnext*", "wide_resnet*"]), ResNetFeatures),
}
