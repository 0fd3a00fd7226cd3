"""A training step and a prediction of a small RT-DETR on 192 pixels, 200 classes: with MEC against without.

The detector is that of configs/evidence/tinyin200_lt_rt_detr_*.yaml on random images of 24 objects each.
"""

from pathlib import Path

import torch
from harness import arguments, measure

from longtail.detection.build import build_staged_detector
from longtail.frequency.groups import CategoryGroups
from longtail.mec.model import make_multi_expert
from longtail.settings import read_yaml

CLASSES, SIDE, BATCH, OBJECTS = 200, 192, 4, 24
GROUPS = CategoryGroups(
    ("rare", "common", "frequent"), (tuple(range(68)), tuple(range(68, 170)), tuple(range(170, 200)))
)
SETTINGS = Path(__file__).parents[1] / "configs" / "evidence" / "tinyin200_lt_rt_detr_baseline.yaml"


def detector(device: str) -> torch.nn.Module:
    """The detector, with random weights."""
    settings = read_yaml(SETTINGS)["model"]
    settings["backbone"].pop("weights")
    torch.manual_seed(0)
    return build_staged_detector(num_classes=CLASSES, **settings).to(device)


def main() -> None:
    """Measure both."""
    options = arguments(__doc__, gpu=True).parse_args()
    generator = torch.Generator().manual_seed(0)
    images = list(torch.randn(BATCH, 3, SIDE, SIDE, generator=generator).to(options.device))
    corners = torch.rand(BATCH, OBJECTS, 2, generator=generator) * 0.7 * SIDE
    sizes = (0.1 + 0.2 * torch.rand(BATCH, OBJECTS, 2, generator=generator)) * SIDE
    labels = torch.randint(CLASSES, (BATCH, OBJECTS), generator=generator)
    boxes = torch.cat([corners, corners + sizes], dim=2)
    pairs = zip(boxes.to(options.device), labels.to(options.device), strict=True)
    targets = [{"boxes": own, "labels": of} for own, of in pairs]
    plain, mec = detector(options.device), make_multi_expert(detector(options.device), GROUPS)

    def step(model: torch.nn.Module) -> None:
        torch.manual_seed(1)
        model.train().zero_grad()
        sum(model.losses(images, targets).values()).backward()

    def predict(model: torch.nn.Module) -> None:
        model.eval().predict(images)

    for name, run in (("query_step", step), ("query_prediction", predict)):
        sides = {"detector": lambda run=run: run(plain), "detector + MEC": lambda run=run: run(mec)}
        measure(name, sides, options, note=f"RT-DETR, {BATCH} images of {SIDE} pixels")


if __name__ == "__main__":
    main()
