"""A step that adds experts to a finished encoder, against its floor and against a step of the baseline.

The floor is the encoder's forward pass without a graph and the steps of the new decoders alone. With cached features it
is the decoders' steps alone.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from harness import measure, measure_each
from torch import Tensor

from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.segmentation_methods import build_method
from longtail.segmentation.models import build_model

CLASSES, SIDE, IMAGES = 51, 192, 4
ENCODERS = {
    "mobilenet_v2": {"encoder": "torchvision/mobilenet_v2", "channels": 64, "low_level_channels": 24},
    "resnet50": {"encoder": "resnet50", "channels": 256},
}


def run(name: str, options: argparse.Namespace) -> None:
    """Steps of one encoder under DeepLabv3+."""
    torch.manual_seed(0)
    share = 1 / torch.arange(1, CLASSES + 1).double() ** 1.6
    pixels = (share * 1e9).long().numpy()
    frequency = ClassFrequency(tuple(str(c) for c in range(CLASSES)), images=pixels, pixels=pixels)
    groups = CategoryGroups.by_rank(share.numpy(), (7, 16, 28))
    cells = torch.multinomial(share, IMAGES * (SIDE // 8) ** 2, replacement=True).view(IMAGES, SIDE // 8, SIDE // 8)
    target = cells.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2).to(options.device)
    image = torch.randn(IMAGES, 3, SIDE, SIDE).to(options.device)

    def method(kind: str):
        model = build_model("deeplabv3plus", CLASSES, output_stride=16, auxiliary=False, **ENCODERS[name])
        return build_method(kind, model, frequency=frequency, groups=groups).to(options.device).train()

    baseline, added = method("baseline"), method("medoe")
    added.freeze("encoder+expert_1")
    added.start_phase("experts")
    with torch.no_grad():
        features = added.features(image)

    def step(losses: Callable[[], dict[str, Tensor]], of: torch.nn.Module) -> Tensor:
        total = torch.stack(list(losses().values())).sum()
        total.backward()
        of.zero_grad()
        return total

    def decoders() -> dict[str, Tensor]:
        terms = {}
        for index, output in enumerate(added.experts.outputs(features, 1), start=1):
            own = added.criteria[index](output.logits, target, added._upsampling(target))
            terms |= {f"{index}.{key}": value for key, value in own.items()}
        return terms

    @torch.no_grad()
    def encoder_alone() -> None:
        added.encoder(image)

    def floor() -> None:
        encoder_alone()
        step(decoders, added)

    note = f"DeepLabv3+ on {name}, {IMAGES} images of {SIDE}x{SIDE}, {CLASSES} classes, K = 3"
    measure(
        f"added_experts_{name}",
        {
            "step of the baseline": partial(step, partial(baseline.losses, image, target), baseline),
            "two experts added": partial(step, partial(added.losses, image, target), added),
            "encoder without a graph, decoders": floor,
            "two experts added, features cached": partial(step, partial(added.losses, features, target), added),
            "decoders alone": partial(step, decoders, added),
        },
        options,
        note=f"training step; {note}",
    )


if __name__ == "__main__":
    measure_each(__doc__, ENCODERS, run)
