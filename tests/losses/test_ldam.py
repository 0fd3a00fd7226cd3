import math

import numpy as np
import pytest
import torch

from longtail.errors import ConfigError
from longtail.frequency import ClassFrequency
from longtail.losses.build import build_loss
from longtail.losses.class_balanced import effective_number_weights
from longtail.losses.cross_entropy import cross_entropy
from longtail.losses.label_space import LabelSpace
from longtail.losses.ldam import LDAMLoss, class_margins
from support.labels import pixels

FREQUENCY = ClassFrequency(
    tuple("abc"), images=np.array([8, 4, 1]), instances=np.array([81, 16, 1]), pixels=np.array([10_000, 625, 16])
)


def test_margins_by_hand():
    counts = torch.tensor([10_000.0, 625.0, 16.0], dtype=torch.float64)  # fourth roots 10, 5, 2
    expected = torch.tensor([0.1, 0.2, 0.5], dtype=torch.float64)
    torch.testing.assert_close(class_margins(counts), expected)


def test_value_by_hand():
    loss = LDAMLoss(pixels(2, pixels=[16, 1]), max_margin=0.5, scale=2.0)
    logits = torch.zeros(2, 2)
    # labels 0 and 1 must lead by 2 x 0.25 and 2 x 0.5: softmax of (-0.5, 0) and (0, -1) for them
    expected = (math.log(1 + math.exp(0.5)) + math.log(1 + math.e)) / 2
    assert loss(logits, torch.tensor([0, 1])).item() == pytest.approx(expected)


def test_no_margin_is_cross_entropy():
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    target[0, 0] = 255
    loss = build_loss({"name": "ldam", "max_margin": 0.0}, LabelSpace.of_pixels(FREQUENCY))
    assert torch.equal(loss(logits, target), cross_entropy(logits, target))


def test_slow_reference():
    loss = build_loss({"name": "ldam", "scale": 10}, LabelSpace.of_boxes(FREQUENCY))
    logits, target = torch.randn(7, 4), torch.tensor([0, 1, 2, 3, 3, 2, -100])
    margins = [0.5 / 3, 0.5 / 2, 0.5, 0.0]  # fourth roots of 81, 16, 1; the background has none
    total = 0.0
    for row, label in zip(logits[:6].tolist(), target[:6].tolist(), strict=True):
        own = row[label] - 10 * margins[label]
        others = sum(math.exp(o) for c, o in enumerate(row) if c != label)
        total -= math.log(math.exp(own) / (math.exp(own) + others))
    assert loss(logits, target).item() == pytest.approx(total / 6, rel=1e-5)
    torch.testing.assert_close(loss.probabilities(logits), logits.softmax(dim=1))


def test_weights_come_late():
    loss = build_loss({"name": "ldam", "defer": 0.5, "beta": 0.5}, LabelSpace.of_pixels(FREQUENCY))
    logits, target = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 255]]])
    early = loss(logits, target)
    loss.set_progress(0.49)
    assert torch.equal(loss(logits, target), early)
    loss.set_progress(0.5)
    weights = effective_number_weights(torch.tensor([8, 4, 1], dtype=torch.float64), 0.5).float()
    torch.testing.assert_close(loss.weights, weights)
    lowered = logits.clone()
    for place, label in (((0, 0), 0), ((0, 1), 1), ((1, 0), 2)):
        lowered[(0, label, *place)] -= 30 * loss.margins[label]
    torch.testing.assert_close(loss(logits, target), cross_entropy(lowered, target, weight=weights))
    loss.set_progress(0.0)
    assert torch.equal(loss(logits, target), early)
    never = build_loss({"name": "ldam", "beta": None}, LabelSpace.of_pixels(FREQUENCY))
    never.set_progress(0.99)
    assert torch.equal(never(logits, target), early)


def test_nothing_but_the_classifier_is_saved():
    assert not build_loss("ldam", LabelSpace.of_pixels(FREQUENCY)).state_dict()


def test_refusals():
    with pytest.raises(ConfigError, match="scale=0"):
        build_loss({"name": "ldam", "scale": 0.0}, LabelSpace.of_pixels(FREQUENCY))
    with pytest.raises(ConfigError, match="unit='pixels' without beta"):
        build_loss({"name": "ldam", "beta": None, "unit": "pixels"}, LabelSpace.of_pixels(FREQUENCY))
