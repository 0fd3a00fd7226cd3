"""``wrap``: recognise the library of a model, and split it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from longtail.errors import ConfigError
from longtail.segmentation.encoder_decoder import EncoderDecoder

_SIDE = 64  # pixels of the image that a model is tried on, at least
_TOLERANCE = 1e-2  # of the largest logit: well above what half precision leaves


def wrap_model(model: nn.Module, num_classes: int | None = None, **settings: Any) -> EncoderDecoder:
    """See ``longtail.segmentation.models.wrap``; ``settings`` that are None were not given."""
    wrapped = _split(model, num_classes, {name: value for name, value in settings.items() if value is not None})
    own = set(model.modules())
    for module in wrapped.modules():
        if module not in own:
            module.training = model.training
    if num_classes is not None and wrapped.num_classes != num_classes:
        raise ConfigError(
            f"{type(model).__name__} predicts {wrapped.num_classes} classes, the data have {num_classes}",
            fix="build the model with the data's number of classes",
        )
    return wrapped


def _split(model: nn.Module, num_classes: int | None, settings: dict[str, Any]) -> EncoderDecoder:
    # The library is told by the class's module, so that none is imported for a model of another.
    libraries = {base.__module__.split(".")[0] for base in type(model).__mro__}
    known = libraries & {"segmentation_models_pytorch", "transformers", "torchvision"}
    if settings and (known or isinstance(model, EncoderDecoder)):
        raise ConfigError(
            f"{' and '.join(settings)} for {type(model).__name__}, which has its own",
            fix="leave them out: they are for your own models with encoder, decoder and head",
        )
    if isinstance(model, EncoderDecoder):
        return model
    if "segmentation_models_pytorch" in libraries:
        from longtail.segmentation.models.smp import split_smp

        return split_smp(model)
    if "transformers" in libraries:
        from longtail.segmentation.models.transformers import split_transformers

        return split_transformers(model)
    if "torchvision" in libraries:
        from longtail.segmentation.models.torchvision import split_torchvision

        return split_torchvision(model)
    return _split_own(model, num_classes, settings)


def _split_own(model: nn.Module, num_classes: int | None, settings: dict[str, Any]) -> EncoderDecoder:
    children = dict(model.named_children())
    encoder, decoder = children.get("encoder"), children.get("decoder")
    head = children.get("head", children.get("segmentation_head"))
    if encoder is None or decoder is None or head is None:
        raise ConfigError(
            f"{type(model).__name__} cannot be split: it is of no library that longtail knows and lacks modules "
            "`encoder`, `decoder` and `head`",
            fix="name them so, or pass the parts: EncoderDecoder(encoder, decoder, head, num_classes=...), with "
            "encoder: image -> list of maps, decoder: that list -> one map, head: that map -> logits",
        )
    wrapped = EncoderDecoder(encoder, decoder, head, num_classes=num_classes or _last_outputs(head) or 0, **settings)
    said = _said_by_both(model, wrapped)
    if said is not None:
        wrapped.num_classes = said.shape[1]
    elif not wrapped.num_classes:
        raise ConfigError(
            f"the number of classes cannot be read from the head {type(head).__name__}",
            fix="pass it: wrap(model, num_classes=...)",
        )
    return wrapped


@torch.no_grad()
def _said_by_both(model: nn.Module, wrapped: EncoderDecoder) -> Tensor | None:
    """Logits of a small image, None where the parts cannot be tried on it.

    Raises:
        ConfigError: The model itself gives another result.
    """
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    side = -(-_SIDE // wrapped.size_divisor) * wrapped.size_divisor
    if weight.is_meta:
        return None
    # of noise, not of zeros: a constant map is resized alike however it is sampled
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(weight)
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        own = _attempt(model, image)
        raw = _attempt(lambda image: wrapped.expert(wrapped.encode(image)).logits, image)
        whole = None if raw is None else wrapped(image)
    finally:
        for module, was in training.items():
            module.training = was
    if raw is None or whole is None or own is None:
        return raw
    same = [o for o in (raw, whole) if o.shape == own.shape]
    if not any((own - o).abs().max() <= _TOLERANCE * own.abs().max() for o in same):
        what = f"differ by up to {float((own - same[-1]).abs().max()):.3g}" if same else f"have shape {list(own.shape)}"
        raise ConfigError(
            f"the outputs of {type(model).__name__} {what} from its head(decoder(encoder(image))), brought to the "
            f"image's size ({list(whole.shape)})",
            fix="wrap(model, align_corners=True) or size_divisor=… where the model resizes so; where its forward does "
            "more, such as a softmax, pass the parts: EncoderDecoder(encoder, decoder, head, num_classes=...)",
        )
    return raw


def _attempt(run: Callable[[Tensor], Any], image: Tensor) -> Tensor | None:
    """Map of logits that ``run`` gives; None on any failure, since the code is third-party."""
    try:
        found = run(image)
    except Exception:
        return None
    return found if isinstance(found, Tensor) and found.ndim == 4 else None


def _last_outputs(module: nn.Module) -> int | None:
    """Output channels of the last convolution in a module: its number of classes."""
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    return convs[-1].out_channels if convs else None
