"""MEDOE with three experts, trained and read at the image's size, against the single decoder that a user would run."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import measure, measure_each
from torch import Tensor

from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.segmentation_methods import build_method
from longtail.segmentation.encoder_decoder import EncoderDecoder
from longtail.segmentation.models import build_model, wrap

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.plain_decoders import as_written

CLASSES, SIDE, IMAGES = 150, 256, 2
SEGFORMER_B3 = {
    "depths": [3, 4, 18, 3],
    "hidden_sizes": [64, 128, 320, 512],
    "decoder_hidden_size": 768,
    "num_labels": CLASSES,
}


def segformer() -> EncoderDecoder:
    """SegFormer-B3 of transformers."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return wrap(SegformerForSemanticSegmentation(SegformerConfig(**SEGFORMER_B3)), CLASSES)


def deeplabv3plus() -> EncoderDecoder:
    """DeepLabv3+ on ResNet-50 at stride 16, 256 channels: torchvision's and smp's width."""
    return build_model("deeplabv3plus", CLASSES, encoder="resnet50", output_stride=16, channels=256, auxiliary=False)


def pspnet() -> EncoderDecoder:
    """PSPNet on ResNet-50 at stride 8."""
    return build_model("pspnet", CLASSES, encoder="resnet50", output_stride=8, auxiliary=False)


MODELS = {"deeplabv3plus": deeplabv3plus, "pspnet": pspnet, "segformer": segformer}


def plain(model: EncoderDecoder) -> Callable[[Tensor], Tensor]:
    """Image -> logits of the decoder as its library, or its paper, writes it."""
    expert = model.expert
    theirs = getattr(expert.decoder, "head", expert.decoder)  # of transformers: the library's own head

    def logits(image: Tensor) -> Tensor:
        with as_written():
            return expert.head(theirs(model.encode(image)))

    return logits


def scene(share: Tensor) -> tuple[Tensor, Tensor]:
    """Images of noise, and labels in patches of 8x8."""
    cells = torch.multinomial(share, IMAGES * (SIDE // 8) ** 2, replacement=True).view(IMAGES, SIDE // 8, SIDE // 8)
    target = cells.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    return torch.randn(IMAGES, 3, SIDE, SIDE), target


def run(name: str, options: argparse.Namespace) -> None:
    """Both rows of one model."""
    torch.manual_seed(0)
    model = MODELS[name]().to(options.device)
    share = 1 / torch.arange(1, CLASSES + 1).double() ** 1.6
    image, target = (values.to(options.device) for values in scene(share))
    pixels = (share * 1e9).long().numpy()
    frequency = ClassFrequency(tuple(str(c) for c in range(CLASSES)), images=pixels, pixels=pixels)
    groups = CategoryGroups.by_rank(share.numpy(), (21, 55, 74))
    method = build_method("medoe", model, frequency=frequency, groups=groups).to(options.device)

    def folded(images: Tensor) -> Tensor:
        return model.expert(model.encode(images)).logits

    def step_of(logits: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def step() -> None:
            up = F.interpolate(logits(image), (SIDE, SIDE), mode="bilinear")
            F.cross_entropy(up, target, ignore_index=255).backward()
            method.zero_grad()

        return step

    def medoe_step() -> None:
        sum(method.losses(image, target).values()).backward()
        method.zero_grad()

    def labels_of(logits: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        @torch.no_grad()
        def labels() -> Tensor:
            return F.interpolate(logits(image[:1]), (SIDE, SIDE), mode="bilinear").argmax(dim=1)

        return labels

    note = f"{CLASSES} classes, {SIDE}x{SIDE}, K = 3"
    sides = {"single decoder, cross-entropy": plain(model), "the same, folded": folded}
    measure(
        f"medoe_step_{name}",
        {side: step_of(logits) for side, logits in sides.items()} | {"longtail MEDOE": medoe_step},
        options,
        note=f"training step, {IMAGES} images, {note}",
    )
    method.eval()
    with torch.no_grad():
        method.ensemble.raw_weight.normal_(0, 0.3)
        method.ensemble.bias.normal_(0, 0.1)
        torch.testing.assert_close(plain(model)(image), folded(image), rtol=1e-3, atol=1e-4)
        agreement = (method.labels(image) == method(image).argmax(dim=1)).float().mean()
    if agreement < 0.9999:
        raise AssertionError(f"labels agree with the probabilities' at {agreement} of the pixels")
    sides = {"single decoder, argmax": plain(model), "the same, folded": folded}
    measure(
        f"medoe_labels_{name}",
        {side: labels_of(logits) for side, logits in sides.items()}
        | {"longtail MEDOE": lambda: method.labels(image[:1])},
        options,
        note=f"labels of one image with the learned ensemble, {note}",
    )


if __name__ == "__main__":
    measure_each(__doc__, MODELS, run)
