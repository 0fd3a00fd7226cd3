import math

import numpy as np
import pytest
import torch

from longtail.frequency import ClassFrequency
from longtail.losses.build import build_loss
from longtail.losses.cross_entropy import cross_entropy
from longtail.losses.label_space import LabelSpace

FREQUENCY = ClassFrequency(
    tuple("abc"), images=np.array([8, 4, 1]), instances=np.array([6, 3, 1]), pixels=np.array([80, 16, 4])
)


def test_value_by_hand_and_slow_reference():
    loss = build_loss("balanced_softmax", LabelSpace.of_pixels(FREQUENCY))
    logits, target = torch.randn(1, 3, 1, 5), torch.tensor([[[0, 1, 2, 2, 255]]])
    total = 0.0
    for position, label in enumerate(target[0, 0, :4].tolist()):
        masses = [n * math.exp(o) for n, o in zip((80, 16, 4), logits[0, :, 0, position].tolist(), strict=True)]
        total -= math.log(masses[label] / sum(masses))
    assert loss(logits, target).item() == pytest.approx(total / 4, rel=1e-5)
    assert loss(torch.zeros(1, 3, 1, 1), torch.tensor([[[1]]])).item() == pytest.approx(-math.log(0.16), rel=1e-5)
    torch.testing.assert_close(loss.probabilities(logits), logits.softmax(dim=1))


@pytest.mark.parametrize("background", [False, True])
def test_it_is_logit_adjustment_with_tau_one(background):
    labels = LabelSpace(3 + background, background, -100, FREQUENCY)
    ours, theirs = (build_loss(name, labels) for name in ("balanced_softmax", "logit_adjustment"))
    logits, target = torch.randn(6, ours.num_logits), torch.randint(0, 3, (6,))
    assert torch.equal(ours(logits, target), theirs(logits, target))


def test_labels_are_counted_in_training_only():
    spec = {"name": "balanced_softmax", "counts": "seen"}
    loss = build_loss(spec, LabelSpace.of_boxes(FREQUENCY))
    logits, target = torch.randn(5, 4), torch.tensor([0, 3, 3, 1, -100])
    first = loss(logits, target)
    assert loss.seen.tolist() == [2, 2, 1, 3]
    torch.testing.assert_close(
        first, cross_entropy(logits + torch.log(torch.tensor([2.0, 2.0, 1.0, 3.0])), target, ignore_index=-100)
    )
    loss.eval()(logits, target)
    assert loss.seen.tolist() == [2, 2, 1, 3]
    again = build_loss(spec, LabelSpace.of_boxes(FREQUENCY))
    again.load_state_dict(loss.state_dict())
    assert again.seen.tolist() == [2, 2, 1, 3]
    assert not build_loss("balanced_softmax", LabelSpace.of_pixels(FREQUENCY)).state_dict()
