"""Segmentation models by name, and the adapters of other libraries' models.

Importing this package imports no model library; a builder's file is imported when its name is asked for.
"""

import difflib
import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtail.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from longtail.segmentation.encoder_decoder import EncoderDecoder

#: Name -> where its builder is: ``module:function``.
MODELS: dict[str, str] = {
    name: f"longtail.segmentation.models.{where}"
    for name, where in {
        "deeplabv3plus": "deeplabv3plus:deeplabv3plus",
        "pspnet": "pspnet:pspnet",
        "ocrnet": "ocrnet:ocrnet",
        "segformer": "segformer:segformer",
        "smp": "smp:build_smp",
        "transformers": "transformers:build_transformers",
        "torchvision": "torchvision:build_torchvision",
    }.items()
}


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
        name: One of ``MODELS``, or the dotted path of your own builder (``my_package.models.my_net``): a function of
            ``num_classes`` and keyword options that returns an ``EncoderDecoder`` or any model that ``wrap`` knows.
        num_classes: Number of classes C.
        weights: None, a local file, or ``"pretrained"`` for the published ones of the encoder (needs a network).
        classifier: ``linear``, ``cosine``, ``deconfound``, or ``{"name": "cosine", "temperature": 20}``: what ends the
            head.
        options: Arguments of the builder; all of them plain JSON values.

    Raises:
        ConfigError: No such model, or it has no such option.
        CheckpointError: The weights cannot be had, or do not fit.
    """
    builder = _find(name)
    _check_options(name, builder, options)
    if weights is not None:
        options["weights"] = weights
    model = wrap(builder(num_classes, **options), num_classes)
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
            given back as it is. Where a model of your own has a ``forward``, it is compared on one small image.
        num_classes: Number of classes C; None to read it from the model.
        size_divisor: Of a model of your own, see ``EncoderDecoder``; 1 where not given.
        align_corners: Of a model of your own, see ``EncoderDecoder``; False where not given.

    Raises:
        ConfigError: The model cannot be split, tells another number of classes apart, says something else than its parts
            one after another, or is of a library that says these settings itself.
    """
    from longtail.segmentation.models.wrapping import wrap_model

    return wrap_model(model, num_classes, size_divisor=size_divisor, align_corners=align_corners)


def model_options(name: str) -> dict[str, Any]:
    """The options of a model and their defaults."""
    parameters = list(inspect.signature(_find(name)).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "weights"}


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


def _find(name: str) -> Any:
    where = MODELS.get(name, name if ":" in name else ":".join(name.rsplit(".", 1)))
    module, _, function = where.partition(":")
    if not function:
        close = difflib.get_close_matches(name, MODELS, n=1)
        raise ConfigError(
            f"there is no segmentation model {name!r}",
            fix=(f"did you mean {close[0]!r}? " if close else "")
            + f"choose one of {', '.join(MODELS)}, or give the dotted path of your own builder",
        )
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"no model builder at {name!r}: {error}", fix="give a dotted path that Python can import from here"
        ) from error


def _check_options(name: str, builder: Any, options: dict[str, Any]) -> None:
    parameters = inspect.signature(builder).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [p for p in list(parameters)[1:] if p != "weights"]
    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1)
            raise ConfigError(
                f"model {name!r} has no option {option!r}",
                fix=(f"did you mean {close[0]!r}? " if close else "") + f"its options are {', '.join(known)}",
            )
