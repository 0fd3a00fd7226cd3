"""The library's own image networks under a detector of transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longtail.detection.backbones.extractor import (
    FeatureExtractor,
    NormMode,
    frozen_modules,
    keep_norms_fixed,
    set_norm_mode,
)
from longtail.detection.backbones.pyramid import build_extractor
from longtail.errors import ConfigError


class FeatureMaps(dict):
    """Feature maps as transformers' backbones give them."""

    @property
    def feature_maps(self) -> list[Tensor]:
        """The maps, finest first."""
        return self["feature_maps"]


class OwnBackbone(nn.Module):
    """A feature extractor in the place of a backbone of transformers.

    Args:
        extractor: The image network.
        levels: How many of its maps are given, the coarsest ones.
        norm: How its batch norms are trained.
        frozen_stages: Number of first stages that are not trained; stage 1 holds the stem.
    """

    def __init__(self, extractor: FeatureExtractor, levels: int, norm: NormMode, frozen_stages: int) -> None:
        super().__init__()
        self.levels, self.norm, self.frozen_stages = levels, norm, frozen_stages
        set_norm_mode(extractor, norm)
        self.extractor = extractor
        self.train(self.training)

    def train(self, mode: bool = True) -> "OwnBackbone":
        """As of any module; frozen stages and fixed statistics stay as they are."""
        super().train(mode)
        keep_norms_fixed(self.extractor, self.norm)
        if self.frozen_stages:
            for module in frozen_modules(self.extractor, self.frozen_stages):
                module.eval()
        return self

    def forward(self, pixel_values: Tensor) -> FeatureMaps:
        """Feature maps, finest first."""
        return FeatureMaps(feature_maps=self.extractor(pixel_values)[-self.levels :])


#: Model type -> number of maps that the detector takes (0: the configuration's num_feature_levels, at most 3).
_LEVELS = {"rt_detr": 3, "rt_detr_v2": 3, "d_fine": 3, "deformable_detr": 0, "detr": 1, "conditional_detr": 1}


def own_backbone(
    model_type: str,
    fields: Mapping[str, Any],
    name: str,
    *,
    weights: str | Path | None = None,
    norm: NormMode = "fixed_statistics",
    frozen_stages: int = 0,
    **options: Any,
) -> tuple[OwnBackbone, dict[str, Any]]:
    """A backbone by name, and the fields of a configuration that a detector is built with until it takes the place.

    Args:
        model_type: Model type of transformers.
        fields: Other fields of the configuration.
        name: See ``build_extractor``.
        weights: See ``build_extractor``.
        norm: How batch norms are trained.
        frozen_stages: Number of first stages that are not trained.
        options: Passed to the encoder.

    Raises:
        ConfigError: Detectors of this type take no other backbone.
    """
    if model_type not in _LEVELS:
        raise ConfigError(f"{model_type} takes its own backbone alone", fix="set model.backbone_config instead")
    extractor = build_extractor(name, weights=weights, **options)
    levels = _LEVELS[model_type] or min(3, int(fields.get("num_feature_levels", 4)))
    channels = list(extractor.channels)
    place = {
        "model_type": "rt_detr_resnet" if _LEVELS[model_type] == 3 else "resnet",
        "embedding_size": channels[0],
        "hidden_sizes": channels,
        "depths": [1] * len(channels),
        "layer_type": "basic",
        "out_features": [f"stage{k}" for k in range(len(channels) + 1 - levels, len(channels) + 1)],
    }
    found: dict[str, Any] = {"backbone_config": place}
    if _LEVELS[model_type] == 3:
        found["encoder_in_channels"] = channels[-levels:]
    else:
        found["use_timm_backbone"] = False
    return OwnBackbone(extractor, levels, norm, frozen_stages), found


@torch.no_grad()
def replace_backbone(model: Any, backbone: OwnBackbone) -> None:
    """Put a backbone in the place of the one that the model was built with."""
    model.model.backbone.model = backbone
