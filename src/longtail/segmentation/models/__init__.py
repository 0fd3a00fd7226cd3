"""Segmentation models by name, and the adapters of other libraries' models.

Importing this package imports no model library; a builder's file is imported when its name is asked for.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtail.components import Components

if TYPE_CHECKING:
    from torch import nn

    from longtail.segmentation.encoder_decoder import EncoderDecoder

NETWORKS = Components(
    "network",
    "longtail.segmentation.models",
    "longtail.segmentation.encoder_decoder:EncoderDecoder",
    given=("num_classes",),
    functions=True,
)


def build_model(
    name: str,
    num_classes: int,
    *,
    weights: "str | Path | None" = None,
    classifier: "str | Mapping[str, Any]" = "linear",
    **options: Any,
) -> "EncoderDecoder":
    """A segmentation model by name.

    Args:
        name: Name of a network (``longtail info``), or the dotted path of your own builder
            (``my_package.models.my_net``): a function of ``num_classes`` and keyword options that returns an
            ``EncoderDecoder`` or any model that ``wrap`` knows.
        num_classes: Number of classes C.
        weights: None, a local file, or ``"pretrained"`` for the published ones of the encoder (needs a network).
        classifier: ``linear``, ``cosine``, ``deconfound``, or ``{"name": "cosine", "temperature": 20}``: what ends the
            head.
        options: Arguments of the builder; all of them plain JSON values.

    Raises:
        ConfigError: No such model, or it has no such option.
        CheckpointError: The weights cannot be had, or do not fit.
    """
    if weights is not None:
        options["weights"] = weights
    model = wrap(NETWORKS.build({"name": name, **options}, num_classes=num_classes), num_classes)
    if classifier == "linear":
        return model
    from longtail.segmentation.classifier import set_classifier

    return set_classifier(model, classifier)


def wrap(
    model: "nn.Module",
    num_classes: int | None = None,
    *,
    size_divisor: int | None = None,
    align_corners: bool | None = None,
) -> "EncoderDecoder":
    """Split a segmentation model of any library into encoder, decoder and head; its logits stay the same.

    Args:
        model: Of segmentation-models-pytorch, transformers or torchvision, or your own with ``encoder``, ``decoder``
            and ``head`` (or ``segmentation_head``). The parts are taken over, not copied. An ``EncoderDecoder`` is
            given back as it is. Where your own model has a ``forward``, it is compared on one small image.
        num_classes: Number of classes C; None to read it from the model.
        size_divisor: For your own model, see ``EncoderDecoder``; 1 where not given.
        align_corners: For your own model, see ``EncoderDecoder``; False where not given.

    Raises:
        ConfigError: The model cannot be split, predicts another number of classes, gives another result than its parts
            one after another, or is of a library that sets these itself.
    """
    from longtail.segmentation.models.wrapping import wrap_model

    return wrap_model(model, num_classes, size_divisor=size_divisor, align_corners=align_corners)


def resolved_options(name: str, num_classes: int, options: dict[str, Any]) -> dict[str, Any]:
    """Options to keep with a trained model: they build it again without a network.

    Args:
        name: See ``build_model``.
        num_classes: Number of classes C.
        options: Options that built the model; of transformers models, a ``config`` on the hub is written out.
    """
    if name != "transformers":
        return options
    from longtail.segmentation.models.transformers import resolve_config

    kept = {name: value for name, value in options.items() if name == "classifier"}  # ours, not transformers'
    return {**resolve_config({k: v for k, v in options.items() if k not in kept}, num_classes), **kept}
