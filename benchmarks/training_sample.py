"""One training sample, from the JPEG to the normalised tensor, against the same steps composed of torchvision's.

Segmentation: decode, scale 0.5 to 2, crop 512, flip, jitter, normalise. Detection: decode, shorter side 640 to 800, flip,
normalise, with twenty boxes and masks. The step that the samples feed stands beside them.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import arguments, measure
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from longtail.datasets.photographs import RGB
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.segmentation_methods import build_method
from longtail.segmentation.models import build_model
from longtail.transforms import IMAGENET_MEAN, IMAGENET_STD, detection_train, segmentation_train
from longtail.transforms.detection import SHORT_SIDES

CROP, SAMPLES, OBJECTS = (512, 512), 6, 20


def write_photograph(path: Path, size: tuple[int, int], seed: int) -> None:
    """Noise whose spectrum falls as that of photographs does, so that it decodes as they do."""
    rng = np.random.default_rng(seed)
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum = rng.normal(size=(3, *frequency.shape)) + 1j * rng.normal(size=(3, *frequency.shape))
    pixels = np.fft.irfft2(spectrum / np.maximum(frequency, 1 / width) ** 1.1, size)
    pixels = 128 + 50 * (pixels - pixels.mean()) / pixels.std()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(path, quality=90)


def label_map(size: tuple[int, int], classes: int) -> torch.Tensor:
    """Regions of the size of objects."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, classes, 12, 12, generator=generator)
    return torch.nn.functional.interpolate(scores, size, mode="bilinear").argmax(dim=1)[0].to(torch.uint8)


def objects(size: tuple[int, int]) -> dict[str, Any]:
    """Boxes and masks of one image."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([size[1] * 0.7, size[0] * 0.7])
    boxes = torch.cat([corner, corner + 20 + torch.rand(OBJECTS, 2, generator=generator) * 100], dim=1)
    return {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "labels": torch.arange(OBJECTS),
        "crowd": torch.zeros(OBJECTS, dtype=torch.bool),
        "masks": tv_tensors.Mask(torch.rand(OBJECTS, *size, generator=generator) < 0.3),
    }


def torchvision_segmentation(size: tuple[int, int]) -> v2.Transform:
    fill = {tv_tensors.Image: 0, tv_tensors.Mask: 255, "others": 0}
    return v2.Compose(
        [
            v2.ScaleJitter(size, (0.5, 2.0)),
            v2.RandomCrop(CROP, pad_if_needed=True, fill=fill),
            v2.RandomHorizontalFlip(),
            v2.RandomPhotometricDistort(p=1.0),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD)),
        ]
    )


def torchvision_detection() -> v2.Transform:
    return v2.Compose(
        [
            v2.RandomShortestSize(list(SHORT_SIDES), max_size=1333),
            v2.RandomHorizontalFlip(),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(list(IMAGENET_MEAN), list(IMAGENET_STD)),
            v2.SanitizeBoundingBoxes(labels_getter=lambda s: [s["labels"], s["crowd"]]),
        ]
    )


def reader(transform: Callable[[Any], Any], files: Sequence[Path], truth: dict[str, Any]) -> Callable[[], None]:
    """Reads every file once, each with randomness of its own, the same at every call."""

    def run() -> None:
        for seed, file in enumerate(files):
            torch.manual_seed(seed)
            transform({"image": RGB.read(file), **truth})

    return run


def measure_samples(name: str, size: tuple[int, int], options: Any, detection: bool = False) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.jpg" for i in range(SAMPLES)]
        for seed, file in enumerate(files):
            write_photograph(file, size, seed)
        truth = objects(size) if detection else {"mask": tv_tensors.Mask(label_map(size, 30))}
        stock = torchvision_detection() if detection else torchvision_segmentation(size)
        ours = detection_train() if detection else segmentation_train(CROP)
        return measure(
            f"training_sample_{name}",
            {
                "torchvision v2": reader(stock, files, truth),
                "longtail": reader(ours, files, truth),
                "decoding alone": lambda: [RGB.read(file) for file in files],
            },
            options,
            note=f"{SAMPLES} samples from JPEGs of {size[0]}x{size[1]}" + (f", {OBJECTS} masks each" * detection),
            floor="decoding alone",
        )


def training_steps(images: int, classes: int = 30) -> dict[str, Callable[[], None]]:
    """Optimiser steps on crops of the same size, of a small model: the least that samples can hide behind."""
    target = label_map(CROP, classes).expand(images, -1, -1)
    counts = torch.bincount(target.flatten().int(), minlength=classes).numpy() + 1
    frequency = ClassFrequency(tuple(map(str, range(classes))), images=counts, pixels=counts)
    groups = CategoryGroups.by_rank(counts, (5, 10, classes - 15))
    image = torch.randn(images, 3, *CROP)

    def step_of(name: str) -> Callable[[], None]:
        model = build_model(
            "deeplabv3plus", classes, encoder="torchvision/mobilenet_v2", output_stride=16, channels=256
        )
        method = build_method(name, model, frequency=frequency, groups=groups)
        optimiser = torch.optim.SGD(method.parameters(), lr=0.0)

        def step() -> None:
            optimiser.zero_grad()
            torch.stack(list(method.losses(image, target).values())).sum().backward()
            optimiser.step()

        return step

    return {"step of the baseline": step_of("baseline"), "step of MEDOE": step_of("medoe")}


def measure_step(options: Any) -> None:
    """The samples of one step beside the step itself."""
    size, images = (512, 683), 2
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.jpg" for i in range(images)]
        for seed, file in enumerate(files):
            write_photograph(file, size, seed)
        read = reader(segmentation_train(CROP), files, {"mask": tv_tensors.Mask(label_map(size, 30))})
        measure(
            "training_sample_step",
            {**training_steps(images), "its samples": read},
            options,
            note=f"{images} crops of {CROP[0]}x{CROP[1]}, DeepLabv3+ on MobileNetV2, 30 classes; a step on one CPU core",
            repeats=min(options.repeats, 3),
        )


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    measure_step(options)
    measure_samples("ade20k", (512, 683), options)
    measure_samples("cityscapes", (1024, 2048), options)
    measure_samples("detection", (480, 640), options, detection=True)


if __name__ == "__main__":
    main()
