"""Encoders by name."""

import inspect
from pathlib import Path
from typing import Any

from longtail.components import Components
from longtail.encoders.base import Encoder
from longtail.encoders.weights import PRETRAINED, published_weights
from longtail.errors import ConfigError

ENCODERS = Components(
    "encoder", "longtail.encoders", "longtail.encoders.base:Encoder", given=("name", "output_stride", "pretrained")
)


def build_encoder(name: str, output_stride: int = 32, *, weights: str | Path | None = None, **options: Any) -> Encoder:
    """An encoder by name, with its weights.

    Args:
        name: A file of this room: ``mobilenet_v2`` (also ``torchvision/mobilenet_v2``: torchvision's parameter names),
            ``mit_b0`` … ``mit_b5``; any timm model; or the dotted path of your own ``Encoder``.
        output_stride: Stride of the deepest map: 8, 16 or 32.
        weights: None for random weights, a local file, or ``"pretrained"`` for those that timm, torchvision
            or transformers publish. (Published MiT weights are licensed for non-commercial use only.)
        options: Other arguments of the encoder's class (``longtail info mobilenet_v2``) or of ``timm.create_model``.

    Returns:
        The encoder, with channels and strides of its maps.

    Raises:
        ConfigError: No such encoder, or not at this stride.
        CheckpointError: The weights cannot be had, or do not fit.
    """
    component = _component(name)
    strided = "output_stride" in inspect.signature(ENCODERS.find(component)).parameters
    if output_stride != 32 and not strided:
        raise ConfigError(f"output_stride {output_stride} of {name}", fix=f"{component} has no dilated form: use 32")
    encoder: Encoder = ENCODERS.build({"name": component, **options}, name=name, output_stride=output_stride)
    if weights == PRETRAINED:
        with published_weights(name):
            encoder.load_published()
    elif weights is not None:
        encoder.load_file(weights)
    return encoder


def _component(name: str) -> str:
    """The file that holds an encoder, or its dotted path."""
    short = name.removeprefix("torchvision/")
    if ENCODERS.has(short):
        return short
    if short.startswith("mit_b"):
        return "mit"
    if "/" in name:
        raise ConfigError(
            f"there is no encoder {name!r}",
            fix="use torchvision/mobilenet_v2, mit_b0 … mit_b5, a timm model, or the dotted path of your own",
        )
    if "." not in name and ":" not in name:
        return "timm"
    import timm

    return "timm" if timm.is_model(name.split(".")[0]) else name  # timm's names have tags: convnext_tiny.fb_in1k
