"""Tiny detectors, images and annotations."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from longtail.detection.backbones.extractor import FeatureExtractor
from longtail.detection.backbones.pyramid import PyramidBackbone
from longtail.detection.build import build_cascade
from longtail.detection.config import CascadeConfig, PostprocessConfig, ProposalConfig

NUM_CLASSES = 3
TINY = {
    "head_channels": 32,
    "mask_channels": 16,
    "mask_convolutions": 2,
    "samples": 32,
    "proposals": ProposalConfig(
        anchor_sizes=(8, 16, 32, 64, 128), candidates_train=200, kept_train=100, candidates_test=100, kept_test=50
    ),
    "postprocess": PostprocessConfig(max_detections=20, mask_chunk=7),
}


class TinyExtractor(FeatureExtractor):
    """Four strided convolution stages; group norm, so that an image's features do not depend on its batch."""

    channels = (16, 16, 24, 24)
    strides = (4, 8, 16, 32)

    def __init__(self, norm: type[nn.Module] = nn.Identity) -> None:
        super().__init__()
        widths = (3, *self.channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 3, stride=4 if k == 0 else 2, padding=1, bias=False),
                norm(b) if norm is not nn.Identity else nn.GroupNorm(4, b),
                nn.ReLU(),
            )
            for k, (a, b) in enumerate(pairwise(widths))
        )

    def stages(self) -> list[list[nn.Module]]:
        return [[block] for block in self.blocks]

    def forward(self, image):
        maps = []
        for block in self.blocks:
            image = block(image)
            maps.append(image)
        return maps


def tiny_backbone(channels: int = 16) -> PyramidBackbone:
    return PyramidBackbone(TinyExtractor(), channels, frozen_stages=0)


def tiny_config(dialect: str = "mmdetection", **changes) -> CascadeConfig:
    return getattr(CascadeConfig, dialect)(NUM_CLASSES, **{**TINY, **changes})


def tiny_cascade(dialect: str = "mmdetection", seed: int = 0, parts: dict | None = None, **changes):
    torch.manual_seed(seed)
    return build_cascade(tiny_backbone(), tiny_config(dialect, **changes), **(parts or {}))


def tiny_htc(seed: int = 0, parts: dict | None = None, **changes):
    torch.manual_seed(seed)
    return build_cascade(tiny_backbone(), tiny_config(**changes), "htc", **(parts or {}))


def scene(height: int = 96, width: int = 96, seed: int = 0, count: int = 3):
    """An image with bright rectangles of ``count`` classes on noise, and its annotations."""
    g = torch.Generator().manual_seed(seed)
    image = 0.1 * torch.randn(3, height, width, generator=g)
    boxes = torch.zeros(count, 4)
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for k in range(count):
        left, top = (int(v) for v in (torch.rand(2, generator=g) * torch.tensor([width * 0.6, height * 0.6])))
        w, h = (int(v) for v in (12 + torch.rand(2, generator=g) * 24))
        right, bottom = min(left + w, width), min(top + h, height)
        boxes[k] = torch.tensor([left, top, right, bottom], dtype=torch.float32)
        masks[k, top:bottom, left:right] = True
        image[k % 3, top:bottom, left:right] += 2.0
    labels = torch.arange(count) % NUM_CLASSES
    return image, {"boxes": boxes, "labels": labels, "masks": masks}


def with_semantic(targets, images):
    return [
        {**t, "semantic": torch.randint(0, 4, tuple(i.shape[-2:]), generator=torch.Generator().manual_seed(0))}
        for t, i in zip(targets, images, strict=True)
    ]


def same(a, b, tolerance=1e-4):
    assert len(a) == len(b)
    torch.testing.assert_close(a.scores, b.scores, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(a.boxes, b.boxes, rtol=tolerance, atol=1e-2)
    assert torch.equal(a.labels, b.labels)


def confident(detector):
    """Spread the class logits, so that scores differ and order is stable."""
    for stage in detector.heads.stages:
        torch.nn.init.normal_(stage.classifier.weight, std=1.0)
    return detector.eval()


@pytest.fixture
def batch():
    """Two images of different size with their annotations."""
    samples = [scene(96, 80, seed=1), scene(64, 100, seed=2, count=2)]
    return [s[0] for s in samples], [s[1] for s in samples]
