"""The classifier of a segmentation head, as a loss wants it."""

import torch
from torch import nn

from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss
from longtail.losses.classifier import start_bias


def fit_classifier(head: nn.Module, num_classes: int, loss: ClassificationLoss) -> nn.Module:
    """A head that gives the logits that a loss wants, and starts at its initial bias.

    The classifier is the last convolution with as many outputs as classes. One of another width takes its place where
    the loss wants other logits; the outputs that both have keep their weights.

    Args:
        head: Any head; changed in place, unless it is the convolution itself.
        num_classes: Number of classes C that the head tells apart.
        loss: The loss.

    Raises:
        ConfigError: The loss wants other logits, and the head has no convolution to be replaced.
    """
    if loss.num_logits == num_classes and loss.initial_bias is None:
        return head
    layers = [
        (name, layer)
        for name, layer in head.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.out_channels in (num_classes, loss.num_logits)
    ]
    if not layers:
        if loss.num_logits == num_classes:
            return head
        raise ConfigError(
            f"{type(loss).__name__} wants {loss.num_logits} logits, but the head {type(head).__name__} has no "
            f"convolution of {num_classes} outputs that could be replaced",
            fix="end the head in a torch.nn.Conv2d",
        )
    name, layer = layers[-1]
    if layer.out_channels != loss.num_logits:
        layer = _resized(layer, loss.num_logits)
        if name:
            head.set_submodule(name, layer)
        else:
            head = layer
    start_bias(layer, loss)
    return head


@torch.no_grad()
def _resized(layer: nn.Conv2d, outputs: int) -> nn.Conv2d:
    new = nn.Conv2d(
        layer.in_channels,
        outputs,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
        device=layer.weight.device,
        dtype=layer.weight.dtype,
    )
    nn.init.normal_(new.weight, std=0.01)
    kept = min(outputs, layer.out_channels)
    new.weight[:kept] = layer.weight[:kept]
    if new.bias is not None and layer.bias is not None:
        nn.init.zeros_(new.bias)
        new.bias[:kept] = layer.bias[:kept]
    return new
