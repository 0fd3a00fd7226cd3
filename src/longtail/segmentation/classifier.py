"""The classifier of a segmentation head, as a loss wants it."""

import torch
from torch import nn

from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss
from longtail.losses.classifier import start_bias


def fit_classifier(head: nn.Module, loss: ClassificationLoss) -> nn.Module:
    """A head whose last convolution gives the logits that a loss wants, and starts at its initial bias.

    A classifier of another width is replaced; the outputs that both have keep their weights, so that those of a
    trained head are not lost.

    Args:
        head: Any head; changed in place, unless it is the convolution itself.
        loss: The loss.

    Raises:
        ConfigError: The head has no convolution to be replaced.
    """
    layers = [(name, m) for name, m in head.named_modules() if isinstance(m, nn.Conv2d)]
    if not layers:
        if loss.num_logits == loss.num_classes and loss.initial_bias is None:
            return head
        raise ConfigError(
            f"the head {type(head).__name__} has no convolution that could give {type(loss).__name__} its "
            f"{loss.num_logits} logits",
            fix="end the head in a torch.nn.Conv2d",
        )
    name, layer = layers[-1]
    if layer.out_channels != loss.num_logits:
        layer = _resized(layer, loss.num_logits)
        if not name:
            head = layer
        else:
            head.set_submodule(name, layer)
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
