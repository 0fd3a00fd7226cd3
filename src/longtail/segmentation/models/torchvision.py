"""torchvision: FCN, DeepLabv3 and LR-ASPP, split at their last convolution.

torchvision takes seconds to import: it is imported when a model is built or split.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from longtail.encoders import PRETRAINED, load_encoder_weights
from longtail.encoders.weights import published_weights
from longtail.errors import ConfigError
from longtail.segmentation.encoder_decoder import EncoderDecoder, Features
from longtail.shapes import Images


def build_torchvision(
    num_classes: int, *, arch: str = "deeplabv3_resnet50", weights: str | Path | None = None, **options: Any
) -> EncoderDecoder:
    """Any segmentation model of torchvision.

    Args:
        num_classes: Number of classes C.
        arch: Name of the model: see ``torchvision.models.list_models(module=torchvision.models.segmentation)``.
        weights: Of the encoder: None, a local file, or ``"pretrained"`` for torchvision's ImageNet weights.
        options: Arguments of the model (``aux_loss=True`` for the auxiliary head).

    Raises:
        ConfigError: No such model, or it cannot be built so.
    """
    from torchvision.models import list_models, segmentation

    known = list_models(module=segmentation)
    if arch not in known:
        raise ConfigError(f"torchvision has no segmentation model {arch!r}", fix=f"choose one of {', '.join(known)}")
    options = {"weights": None, "weights_backbone": None, "num_classes": num_classes, **options}
    if weights == PRETRAINED:
        options["weights_backbone"] = "DEFAULT"
    with published_weights(f"torchvision's {arch}", wanted=weights == PRETRAINED):
        model = _construct(arch, options)
    if weights is not None and weights != PRETRAINED:
        load_encoder_weights(model.backbone, weights)
    return split_torchvision(model)


def _construct(arch: str, options: dict[str, Any]) -> Any:
    from torchvision.models import get_model

    try:
        return get_model(arch, **options)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"torchvision cannot build {arch} with {options}: {error}", fix="see the model's arguments in its docs"
        ) from error


def split_torchvision(model: nn.Module) -> EncoderDecoder:
    """Encoder, decoder and last convolution of a torchvision segmentation model.

    Args:
        model: FCN, DeepLabv3 or LR-ASPP; an ``aux_classifier`` becomes the auxiliary head, with torchvision's weight .5.

    Raises:
        ConfigError: It is none of these.
    """
    from torchvision.models import segmentation

    parts: dict[str, Any] = dict(model.named_children())
    backbone, classifier = parts.get("backbone"), parts.get("classifier")
    if isinstance(model, segmentation.LRASPP) and classifier is not None:
        head = _joint_classifier(classifier.low_classifier, classifier.high_classifier)
        maps = _Maps(backbone, ("low", "high"))
        return EncoderDecoder(maps, _LRASPPDecoder(classifier), head, num_classes=head.out_channels)
    if backbone is None or not isinstance(classifier, nn.Sequential) or not isinstance(classifier[-1], nn.Conv2d):
        raise ConfigError(
            f"{type(model).__name__} of torchvision is no segmentation model that can be split",
            fix="use FCN, DeepLabV3 or LRASPP, or pass the parts: EncoderDecoder(encoder, decoder, head, ...)",
        )
    auxiliary = parts.get("aux_classifier")
    return EncoderDecoder(
        _Maps(backbone, ("aux", "out") if auxiliary is not None else ("out",)),
        _OnMap(nn.Sequential(OrderedDict(list(classifier.named_children())[:-1])), -1),
        classifier[-1],
        num_classes=classifier[-1].out_channels,
        auxiliary_head=_OnMap(auxiliary, 0) if auxiliary is not None else None,
        auxiliary_weight=0.5,
    )


@torch.no_grad()
def _joint_classifier(low: nn.Conv2d, high: nn.Conv2d) -> nn.Conv2d:
    """The sum of two 1x1 classifiers on two maps, as one on the maps side by side."""
    joint = nn.Conv2d(low.in_channels + high.in_channels, low.out_channels, 1)
    joint.to(low.weight).weight.copy_(torch.cat([low.weight, high.weight], dim=1))
    if low.bias is not None and high.bias is not None and joint.bias is not None:
        joint.bias.copy_(low.bias + high.bias)
    return joint


class _Maps(nn.Module):
    """A backbone's named maps, as a list."""

    def __init__(self, backbone: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.names = names

    def forward(self, image: Images) -> list[Tensor]:
        maps = self.backbone(image)
        return [maps[name] for name in self.names]


class _OnMap(nn.Module):
    """A module on one of the maps."""

    def __init__(self, module: nn.Module, index: int) -> None:
        super().__init__()
        self.module = module
        self.index = index

    def forward(self, features: Features) -> Tensor:
        return self.module(features[self.index])


class _LRASPPDecoder(nn.Module):
    """LR-ASPP up to its classifiers: the low map, and the high one gated by the image's mean."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.cbr, self.scale = head.cbr, head.scale

    def forward(self, features: Features) -> Float[Tensor, "n channels h w"]:
        low, high = features
        gated = self.cbr(high) * self.scale(high)
        gated = F.interpolate(gated, size=low.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([low, gated], dim=1)
