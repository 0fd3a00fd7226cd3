"""The de-confounded classifier in a detector."""

import pytest
import torch

from longtail.classifiers.deconfound import DeconfoundClassifier
from longtail.detection.build import build_detector
from longtail.detection.stage import BoxStage
from longtail.losses.seesaw import SeesawLoss
from support.labels import boxes

from .conftest import tiny_cascade, tiny_htc

C = 3


def test_stage_shows_it_the_objects_in_training_only():
    stage = BoxStage(4 * 49, 16, C + 1, DeconfoundClassifier)
    pooled, foreground = torch.randn(3, 4, 7, 7), torch.tensor([True, False, True])
    stage(pooled)
    assert not stage.classifier.embedding.any()
    stage(pooled, foreground)
    torch.testing.assert_close(stage.classifier.embedding, stage.shared(pooled)[foreground].mean(0))
    before = stage.classifier.embedding.clone()
    stage.eval()(pooled, foreground)
    assert torch.equal(before, stage.classifier.embedding)


@pytest.mark.parametrize("make", [tiny_cascade, tiny_htc])
def test_in_a_detector(make, batch):
    detector = make(parts={"classifier": "deconfound"})
    losses = detector.losses(*batch)
    sum(losses.values()).backward()
    heads = [stage.classifier for stage in detector.heads.stages]
    assert all(h.embedding.any() and h.weight.grad.any() and h.classes == detector.num_classes for h in heads)
    outputs = detector.eval().stage_outputs(batch[0])[0].logits
    for head in heads:
        head.alpha = 0.0
    assert not torch.allclose(outputs, detector.stage_outputs(batch[0])[0].logits)


def test_it_knows_what_is_no_class():
    seesaw = SeesawLoss(boxes(3))
    detector = build_detector(
        num_classes=3,
        classifier="deconfound",
        losses=seesaw,
        backbone={"name": "torchvision/mobilenet_v2", "channels": 8},
        head_channels=16,
    )
    classifier = detector.heads.stages[0].classifier
    assert (classifier.classes, len(classifier.weight)) == (3, 5)
