"""``wrap``: recognise whose model it is, and split it."""

from torch import nn

from longtail.errors import ConfigError
from longtail.segmentation.encoder_decoder import EncoderDecoder


def wrap_model(model: nn.Module, num_classes: int | None = None) -> EncoderDecoder:
    """See ``longtail.segmentation.models.wrap``."""
    wrapped = _split(model, num_classes)
    own = set(model.modules())
    for module in wrapped.modules():
        if module not in own:
            module.training = model.training
    if num_classes is not None and wrapped.num_classes != num_classes:
        raise ConfigError(
            f"{type(model).__name__} tells {wrapped.num_classes} classes apart, the data have {num_classes}",
            fix="build the model with the data's number of classes",
        )
    return wrapped


def _split(model: nn.Module, num_classes: int | None) -> EncoderDecoder:
    if isinstance(model, EncoderDecoder):
        return model
    # The library is told by the class's module, so that none is imported for a model of another.
    libraries = {base.__module__.split(".")[0] for base in type(model).__mro__}
    if "segmentation_models_pytorch" in libraries:
        from longtail.segmentation.models.smp import split_smp

        return split_smp(model)
    if "transformers" in libraries:
        from longtail.segmentation.models.transformers import split_transformers

        return split_transformers(model)
    if "torchvision" in libraries:
        from longtail.segmentation.models.torchvision import split_torchvision

        return split_torchvision(model)
    return _split_own(model, num_classes)


def _split_own(model: nn.Module, num_classes: int | None) -> EncoderDecoder:
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
    found = _last_outputs(head) or num_classes
    if found is None:
        raise ConfigError(
            f"the number of classes cannot be read from the head {type(head).__name__}",
            fix="pass it: wrap(model, num_classes=...)",
        )
    return EncoderDecoder(encoder, decoder, head, num_classes=found)


def _last_outputs(module: nn.Module) -> int | None:
    """Output channels of the last convolution in a module: its number of classes."""
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    return convs[-1].out_channels if convs else None
