"""A feature pyramid on any feature extractor, and the builder that knows the networks by name."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from longtail.detection.backbones.deformable import make_deformable
from longtail.detection.backbones.encoder_features import EncoderFeatures
from longtail.detection.backbones.extractor import (
    FeatureExtractor,
    NormMode,
    frozen_modules,
    keep_norms_fixed,
    set_norm_mode,
)
from longtail.detection.backbones.torchvision_networks import NETWORKS
from longtail.encoders.build import build_encoder
from longtail.encoders.weights import PRETRAINED, load_encoder_weights, published_weights
from longtail.errors import ConfigError


class PyramidBackbone(nn.Module):
    """Feature extractor and pyramid: image -> maps of equal width, one coarser level more than the extractor has.

    Args:
        extractor: The image network.
        channels: Width of the pyramid.
        norm: How the extractor's batch norms are trained.
        frozen_stages: Number of first stages that are not trained; stage 1 holds the stem.

    Source: FPN (Lin 2017).
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        channels: int = 256,
        norm: NormMode = "fixed_statistics",
        frozen_stages: int = 1,
    ) -> None:
        super().__init__()
        self.norm: NormMode = norm
        self.frozen_stages = frozen_stages
        self.channels = channels
        self.strides = (*extractor.strides, 2 * extractor.strides[-1])
        set_norm_mode(extractor, norm)
        self.extractor = extractor
        self.pyramid = FeaturePyramidNetwork(list(extractor.channels), channels, LastLevelMaxPool())
        self.train(self.training)

    def train(self, mode: bool = True) -> "PyramidBackbone":
        """As of any module; frozen stages and fixed statistics stay as they are."""
        super().train(mode)
        keep_norms_fixed(self.extractor, self.norm)
        if self.frozen_stages:
            for module in frozen_modules(self.extractor, self.frozen_stages):
                module.eval()
        return self

    def forward(self, image: Float[Tensor, "n bands h w"]) -> list[Tensor]:
        """Pyramid levels, finest first."""
        maps = self.extractor(image)
        return list(self.pyramid(OrderedDict((str(k), m) for k, m in enumerate(maps))).values())


def build_backbone(
    name: str = "torchvision/resnet50",
    *,
    weights: str | Path | None = None,
    channels: int = 256,
    norm: NormMode = "fixed_statistics",
    frozen_stages: int = 1,
    deformable_stages: Sequence[int] = (),
    **options: Any,
) -> PyramidBackbone:
    """A pyramid on a network known by name.

    Args:
        name: ``torchvision/NAME`` with a name of ``NETWORKS``, ``mit_b0`` … ``mit_b5``, or any hierarchical model of
            timm (``resnest200e``, ``convnext_tiny`` …).
        weights: Weight file (.safetensors, .pth) of the network; ``"pretrained"`` for the weights that its library
            recommends; a name of torchvision's, such as ``"IMAGENET1K_V1"``, for those; None for random ones.
        channels: Width of the pyramid.
        norm: How batch norms are trained.
        frozen_stages: Number of first stages that are not trained; 0 without pretrained weights.
        deformable_stages: Which of the stages 2 … 5 (by the maps C2 … C5 they end in) get deformable 3x3
            convolutions; (3, 4, 5) in MEC's Table 4.
        **options: Passed to the encoder (``timm.create_model``).
    """
    extractor = build_extractor(name, weights=weights, **options)
    stages = extractor.stages() if deformable_stages else []
    for stage in deformable_stages:
        if not 2 <= stage < len(stages) + 2:
            raise ConfigError(f"no stage {stage} to make deformable", fix=f"choose stages 2 … {len(stages) + 1}")
        make_deformable(stages[stage - 2])
    return PyramidBackbone(extractor, channels, norm, frozen_stages)


def build_extractor(name: str, *, weights: str | Path | None = None, **options: Any) -> FeatureExtractor:
    """A feature extractor by name; arguments as of ``build_backbone``.

    Raises:
        ConfigError: There is no such network, or options were given to one that takes none.
        CheckpointError: The weights do not fit.
    """
    if not name.startswith("torchvision/"):
        return EncoderFeatures(build_encoder(name, weights=weights, **options))
    short = name.removeprefix("torchvision/")
    if short not in NETWORKS or options:
        raise ConfigError(
            f"no torchvision backbone {short!r} with options {options}",
            fix=f"choose one of {sorted(NETWORKS)} without options, or the name of a timm model",
        )
    known = {PRETRAINED: "DEFAULT", **{entry.name: entry.name for entry in models.get_model_weights(short)}}
    published = known.get(str(weights))
    with published_weights(name, wanted=published is not None):
        extractor = NETWORKS[short](models.get_model(short, weights=published))
    if weights is not None and published is None:
        load_encoder_weights(extractor, weights)
    return extractor
