"""The classifier of a segmentation head: its kind, and the logits that a loss needs."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from longtail.classifiers.deconfound import DeconfoundClassifier
from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss, start_bias
from longtail.segmentation.encoder_decoder import EncoderDecoder
from longtail.shapes import ClassMaps


class CosineConv2d(nn.Conv2d):
    """A convolution that gives the scaled cosine of its input patch and its weights, plus a bias.

    o_c = temperature <x / |x|, w_c / |w_c|> + b_c

    Arguments as of ``torch.nn.Conv2d``, for one group and stride 1; and the ``temperature``. The parameters have the
    names and shapes of the plain convolution's.

    Source: the pixels' form of ``classifiers.cosine.CosineClassifier``.
    """

    def __init__(self, *arguments: Any, temperature: float = 20.0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.groups != 1 or self.stride != (1, 1):
            raise ConfigError(
                f"a cosine classifier of {self.groups} groups and stride {self.stride}",
                fix="end the head in a convolution of one group and stride 1",
            )
        self.temperature = temperature

    def forward(self, input: Float[Tensor, "n channels h w"]) -> Float[Tensor, "n classes _ _"]:
        """Logits of a map."""
        exact = torch.float32 if input.dtype in (torch.float16, torch.bfloat16) else None
        length = torch.linalg.vector_norm(input, dim=1, keepdim=True, dtype=exact)
        if self.kernel_size != (1, 1):
            ones = length.new_ones(1, 1, *self.kernel_size)
            squares = F.conv2d(length.square(), ones, None, 1, self.padding, self.dilation)
            length = squares.clamp(min=1e-12).sqrt()
        directions = F.normalize(self.weight.flatten(1), dim=1, eps=1e-6).view_as(self.weight)
        products = F.conv2d(input, directions, None, 1, self.padding, self.dilation)
        logits = self.temperature * products / length.clamp(min=1e-6)
        return logits if self.bias is None else logits + self.bias.view(-1, 1, 1)

    def reset_parameters(self) -> None:
        """Small weights and no bias; only the weights' directions count."""
        nn.init.normal_(self.weight, std=0.01)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @classmethod
    def like(cls, layer: nn.Conv2d, **options: Any) -> "CosineConv2d":
        """A new one of the same shape, with its own weights."""
        return cls(**convolution_arguments(layer), **options)


def convolution_arguments(layer: nn.Conv2d) -> dict[str, Any]:
    """Arguments that make a convolution of the same shape."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    return {name: getattr(layer, name) for name in names} | {"bias": layer.bias is not None}


class DeconfoundPixels(nn.Module):
    """``DeconfoundClassifier`` at every pixel: at inference, remove the component along the mean training feature.

    Pixels have no background that stands for "nothing": the moving sum is of all of them, and no class is exempt.

    Args:
        channels: Width of the map; a multiple of ``heads``.
        num_classes: Number of classes C.
        options: ``heads``, ``temperature``, ``gamma``, ``alpha`` and ``momentum`` of ``DeconfoundClassifier``.

    Source: Tang 2020, Eqs. 7-9, without the background exemption.
    """

    def __init__(self, channels: int, num_classes: int, **options: Any) -> None:
        super().__init__()
        self.rows = DeconfoundClassifier(channels, num_classes, exempt=0, **options)

    def forward(self, input: Float[Tensor, "n channels h w"]) -> ClassMaps:
        """Logits of a map; in training mode its mean moves the sum on."""
        rows = input.movedim(1, -1).flatten(0, 2)
        if self.training:
            self.rows.observe(rows.detach(), torch.ones(len(rows), dtype=torch.bool, device=rows.device))
        return self.rows(rows).unflatten(0, (len(input), *input.shape[-2:])).movedim(-1, 1)

    def reset_parameters(self) -> None:
        """Reset weights and the moving sum."""
        self.rows.reset_parameters()


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
