"""Seeded losses of tiny detectors stay what they were; and a tiny cascade learns two images by heart.

Rewrite the numbers after a change that is meant to change them: ``python -m pytest tests/detection/test_golden.py``
with ``LONGTAIL_WRITE_GOLDEN=1``.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from torchvision.ops import box_iou

from support.masks import decode_mask

from .conftest import scene, tiny_cascade, tiny_htc, with_semantic

GOLDEN = Path(__file__).parents[1] / "golden" / "detection.json"
DETECTORS = {
    "cascade_mmdetection": tiny_cascade,
    "cascade_detectron2": lambda: tiny_cascade("detectron2"),
    "cascade_cosine": lambda: tiny_cascade(parts={"classifier": "cosine"}),
    "htc": tiny_htc,
    "htc_semantic": lambda: tiny_htc(parts={"semantic_classes": 4}),
}


@pytest.mark.parametrize("name", DETECTORS)
def test_golden_losses(name):
    samples = [scene(96, 80, seed=1), scene(64, 100, seed=2, count=2)]
    images, targets = [s[0] for s in samples], [s[1] for s in samples]
    detector = DETECTORS[name]()
    torch.manual_seed(1)
    losses = detector.losses(images, with_semantic(targets, images))
    sum(losses.values()).backward()
    found = {k: v.item() for k, v in losses.items()}
    found["gradient_norm"] = torch.stack([p.grad.norm() for p in detector.parameters()]).norm().item()
    if os.environ.get("LONGTAIL_WRITE_GOLDEN"):
        written = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        GOLDEN.write_text(json.dumps({**written, name: found}, indent=1, sort_keys=True) + "\n")
    assert found == pytest.approx(json.loads(GOLDEN.read_text())[name], rel=2e-3, abs=1e-5)


def test_a_tiny_cascade_learns_two_images_by_heart():
    samples = [scene(96, 96, seed=s, count=2) for s in (1, 4)]
    images, targets = [s[0] for s in samples], [s[1] for s in samples]
    detector = tiny_cascade()
    optimizer = torch.optim.Adam(detector.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        loss = sum(detector.losses(images, targets).values())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
        optimizer.step()
    detector.eval()
    for found, target in zip(detector.predict(images), targets, strict=True):
        sure = found.scores > 0.5
        overlap = box_iou(target["boxes"], found.boxes[sure])
        right = overlap * (target["labels"][:, None] == found.labels[sure][None])
        assert right.amax(dim=1).min() > 0.7
        for k, best in enumerate(right.argmax(dim=1).tolist()):
            mask = torch.from_numpy(decode_mask(found.masks[torch.where(sure)[0][best]]).copy())
            union = (mask | target["masks"][k]).sum()
            assert (mask & target["masks"][k]).sum() / union > 0.6
