"""The classifier of a segmentation head: its kind, and the logits that a loss needs."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss, start_bias
from longtail.segmentation.cosine import CosineConv2d, convolution_arguments
from longtail.segmentation.deconfound import DeconfoundPixels
from longtail.segmentation.encoder_decoder import EncoderDecoder


def _deconfound(layer: nn.Conv2d, **options: Any) -> DeconfoundPixels:
    if layer.kernel_size != (1, 1) or layer.groups != 1 or layer.stride != (1, 1):
        raise ConfigError(
            f"a de-confounded classifier instead of a convolution of kernel {layer.kernel_size}",
            fix="end the head in a 1x1 convolution of one group and stride 1, or choose classifier='cosine'",
        )
    return DeconfoundPixels(layer.in_channels, layer.out_channels, **options)


#: Name -> (builder that replaces a convolution, its options).
_KINDS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "cosine": (CosineConv2d.like, ("temperature",)),
    "deconfound": (_deconfound, ("heads", "temperature", "gamma", "alpha", "momentum")),
}


def set_classifier(model: EncoderDecoder, classifier: str | Mapping[str, Any]) -> EncoderDecoder:
    """Give a new model the classifier that is asked for: ``linear`` (unchanged), ``cosine`` or ``deconfound``.

    The classifier is the last convolution of the head with as many outputs as classes. A model's auxiliary heads keep
    theirs.

    Args:
        model: Changed in place.
        classifier: A name, or ``{"name": "cosine", "temperature": 30}``.

    Raises:
        ConfigError: No such classifier or option, or the head does not end in a convolution that it can replace.
    """
    options: dict[str, Any] = {"name": classifier} if isinstance(classifier, str) else dict(classifier)
    name = options.pop("name", None)
    if name == "linear" and not options:
        return model
    if name not in _KINDS or not set(options) <= set(_KINDS[name][1]):
        known = "; ".join(f"{kind} with {', '.join(names)}" for kind, (_, names) in _KINDS.items())
        raise ConfigError(f"no classifier {classifier!r}", fix=f"choose 'linear', or one of {known}")
    head = model.expert.head
    where, old = _last_convolution(head, model.num_classes)
    if old is None:
        raise ConfigError(
            f"the head {type(head).__name__} has no convolution of {model.num_classes} outputs",
            fix="end the head in a torch.nn.Conv2d, or leave classifier='linear'",
        )
    new = _KINDS[name][0](old, **options).to(old.weight).train(old.training)
    model.expert.head = _with_layer(head, where, new)
    return model


def fit_classifier(head: nn.Module, num_classes: int, loss: ClassificationLoss) -> nn.Module:
    """A head with the logits that a loss needs, and its initial bias.

    The classifier is the last convolution with as many outputs as classes. One of another width takes its place where
    the loss needs other logits; the outputs that both have keep their weights.

    Args:
        head: Any head; changed in place, unless it is the convolution itself.
        num_classes: Number of classes C of the head.
        loss: The loss.

    Raises:
        ConfigError: The loss needs other logits, and the head has no convolution to be replaced.
    """
    if loss.num_logits == num_classes and loss.initial_bias is None:
        return head
    name, layer = _last_convolution(head, num_classes, loss.num_logits)
    if layer is None:
        if loss.num_logits == num_classes:
            return head
        raise ConfigError(
            f"{type(loss).__name__} needs {loss.num_logits} logits, but the head {type(head).__name__} has no "
            f"convolution of {num_classes} outputs that could be replaced",
            fix="end the head in a torch.nn.Conv2d",
        )
    if layer.out_channels != loss.num_logits:
        layer = _resized(layer, loss.num_logits)
        head = _with_layer(head, name, layer)
    start_bias(layer, loss)
    return head


def _last_convolution(head: nn.Module, *widths: int) -> tuple[str, nn.Conv2d | None]:
    """Name within the head and layer of the last convolution with so many outputs; None where there is none."""
    found: tuple[str, nn.Conv2d | None] = "", None
    for name, layer in head.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.out_channels in widths:
            found = name, layer
    return found


def _with_layer(head: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    """The head with one layer replaced; the new layer alone where that layer was the head."""
    if not name:
        return layer
    head.set_submodule(name, layer)
    return head


@torch.no_grad()
def _resized(layer: nn.Conv2d, outputs: int) -> nn.Conv2d:
    new = nn.Conv2d(**convolution_arguments(layer) | {"out_channels": outputs}).to(layer.weight)
    nn.init.normal_(new.weight, std=0.01)
    kept = min(outputs, layer.out_channels)
    new.weight[:kept] = layer.weight[:kept]
    if new.bias is not None and layer.bias is not None:
        nn.init.zeros_(new.bias)
        new.bias[:kept] = layer.bias[:kept]
    return new
