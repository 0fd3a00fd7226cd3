"""Encoders by name."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import MobileNet_V2_Weights

from longtail.encoders.base import Encoder
from longtail.encoders.mit import SIZES, MixTransformer
from longtail.encoders.mobilenet_v2 import MobileNetV2
from longtail.encoders.weights import PRETRAINED, load_encoder_weights, published_weights
from longtail.errors import ConfigError
from longtail.shapes import Images


class TimmEncoder(Encoder):
    """Any timm model with ``features_only``, its maps always in (n, c, h, w).

    Args:
        name: timm's name, with or without a weights tag (``resnet50c``, ``convnext_tiny.fb_in1k``).
        output_stride: 8 or 16 where the model can be dilated; 32 does not change it.
        pretrained: Take timm's published weights.
        options: Other arguments of ``timm.create_model`` (``out_indices``, ``drop_path_rate`` …).

    Raises:
        ConfigError: timm has no such model, or it cannot be built so.
    """

    def __init__(self, name: str, output_stride: int = 32, pretrained: bool = False, **options: Any) -> None:
        super().__init__()
        import timm

        if not timm.is_model(name.split(".")[0]):
            close = timm.list_models(f"*{name.split('.')[0]}*")[:5]
            raise ConfigError(
                f"timm has no model {name!r}",
                fix=f"did you mean one of {close}?" if close else "see timm.list_models()",
            )
        if output_stride != 32:
            options["output_stride"] = output_stride
        try:
            self.body = timm.create_model(name, pretrained=pretrained, features_only=True, **options)
        except (AssertionError, TypeError, RuntimeError, NotImplementedError) as error:
            raise ConfigError(
                f"timm cannot build {name!r} as a feature extractor with {options}: {error or type(error).__name__}",
                fix="try output_stride 32 and fewer encoder options; not every model can be dilated",
            ) from error
        info: Any = self.body.feature_info
        self.channels, self.reductions = tuple(info.channels()), tuple(info.reduction())
        # HRNet adds maps that it upsamples by fixed factors; plain vision transformers cut the image into patches.
        rigid = name.startswith("hrnet") or len(set(self.reductions)) == 1
        self.size_divisor = max(32 if name.startswith("hrnet") else 1, self.reductions[-1]) if rigid else 1
        self._channels_last = str(getattr(self.body, "output_fmt", "NCHW")).upper().endswith("NHWC")

    def forward(self, image: Images) -> list[Tensor]:
        """Feature maps, shallow to deep."""
        maps = self.body(image)
        return [m.permute(0, 3, 1, 2).contiguous() for m in maps] if self._channels_last else list(maps)


def build_encoder(name: str, output_stride: int = 32, *, weights: str | Path | None = None, **options: Any) -> Encoder:
    """An encoder by name, with its weights.

    Args:
        name: ``torchvision/mobilenet_v2`` (torchvision's parameter names), ``mit_b0`` … ``mit_b5``, or any timm
            model.
        output_stride: Stride of the deepest map: 8, 16 or 32.
        weights: None for random weights, a local file, or ``"pretrained"`` for those that timm, torchvision
            or transformers publish. (Published MiT weights are licensed for non-commercial use only.)
        options: Other arguments of ``MobileNetV2``, ``MixTransformer`` or ``timm.create_model``.

    Returns:
        The encoder, with channels and strides of its maps.

    Raises:
        ConfigError: No such encoder, or not at this stride.
        CheckpointError: The weights cannot be had, or do not fit.
    """
    published = weights == PRETRAINED
    encoder: Any
    if name == "torchvision/mobilenet_v2":
        try:
            encoder = MobileNetV2(output_stride, **options)
        except TypeError as error:
            raise ConfigError(f"{name}: {error}", fix="MobileNetV2 takes width and frozen_stages") from error
        if published:
            with published_weights(name):
                state = MobileNet_V2_Weights.IMAGENET1K_V2.get_state_dict(progress=False)
                encoder.load_state_dict({k: v for k, v in state.items() if k in encoder.state_dict()})
    elif name in SIZES:
        encoder = _mix_transformer(name, output_stride, options)
        if published:
            encoder.load_published()
        elif weights is not None:
            encoder.load_file(weights)
        return encoder
    elif "/" in name:
        raise ConfigError(
            f"there is no encoder {name!r}",
            fix="use 'torchvision/mobilenet_v2', 'mit_b0' … 'mit_b5' or the name of a timm model",
        )
    elif published:
        with torch.device("meta"):  # refuse what cannot be built before asking the network
            TimmEncoder(name, output_stride, **options)
        with published_weights(name):
            encoder = TimmEncoder(name, output_stride, pretrained=True, **options)
    else:
        encoder = TimmEncoder(name, output_stride, **options)
    if weights is not None and not published:
        load_encoder_weights(encoder.body if isinstance(encoder, TimmEncoder) else encoder, weights)
    return encoder


def _mix_transformer(name: str, output_stride: int, options: dict[str, Any]) -> MixTransformer:
    if output_stride != 32:
        raise ConfigError(f"output_stride {output_stride} of {name}", fix="MiT has no dilated form: use 32")
    return MixTransformer(name, **options)
