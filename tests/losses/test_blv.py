import math

import numpy as np
import pytest
import torch

from longtail.errors import ConfigError
from longtail.frequency import ClassFrequency
from longtail.losses.blv import variation_of_classes
from longtail.losses.build import build_loss
from longtail.losses.cross_entropy import cross_entropy
from longtail.losses.label_space import LabelSpace

FREQUENCY = ClassFrequency(
    tuple("abc"), images=np.array([8, 4, 1]), instances=np.array([100, 10, 1]), pixels=np.array([10_000, 100, 1])
)


def test_variation_by_hand():
    counts = torch.tensor([10_000.0, 100.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(variation_of_classes(counts), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    found = variation_of_classes(counts, "all")
    assert found[2] == 1 and found[1].item() == pytest.approx(math.log(101.01) / math.log(10_101))
    assert (variation_of_classes(torch.full((3,), 7.0)) == 0).all()


def test_value_by_hand():
    # draws beyond the limit are the limit: σ so large that all of them are 1
    loss = build_loss({"name": "blv", "sigma": 1e9}, LabelSpace.of_pixels(FREQUENCY))
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    target[0, 0] = 255
    moved = logits + torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1)
    torch.testing.assert_close(loss(logits, target), cross_entropy(moved, target))


def test_without_variation_it_is_cross_entropy():
    logits, target = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, -100])
    expected = cross_entropy(logits, target, ignore_index=-100)
    for options in ({"sigma": 0}, {}):
        loss = build_loss({"name": "blv", **options}, LabelSpace.of_boxes(FREQUENCY))
        assert torch.equal(loss.train(not options)(logits, target), expected) == bool(options)
        assert torch.equal(loss.eval()(logits, target), expected)
    assert loss.variation.tolist() == [0, 0.5, 1, 0]


@pytest.mark.parametrize("signed", [False, True])
def test_draws_against_a_slow_reference(signed):
    loss = build_loss({"name": "blv", "sigma": 0.7, "limit": 0.9, "signed": signed}, LabelSpace.of_pixels(FREQUENCY))
    logits, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
    torch.manual_seed(5)
    found = loss(logits, target)
    torch.manual_seed(5)
    draws = torch.randn(4, 3)
    total = 0.0
    for row, noise, label in zip(logits.tolist(), draws.tolist(), target.tolist(), strict=True):
        clamped = [max(-0.9, min(0.9, 0.7 * d)) for d in noise]
        moved = [o + v * (d if signed else abs(d)) for o, v, d in zip(row, (0.0, 0.5, 1.0), clamped, strict=True)]
        total -= moved[label] - math.log(sum(math.exp(m) for m in moved))
    assert found.item() == pytest.approx(total / 4, rel=1e-5)


def test_signed_draws_have_no_mean():
    loss = build_loss({"name": "blv", "sigma": 1, "limit": None, "signed": True}, LabelSpace.of_pixels(FREQUENCY))
    torch.manual_seed(0)
    draws = loss._draw(torch.zeros(20_000, 3))
    assert draws.mean().abs() < 0.02 and abs(draws.std().item() - 1) < 0.02


def test_refusals():
    with pytest.raises(ConfigError, match="sigma=-1"):
        build_loss({"name": "blv", "sigma": -1}, LabelSpace.of_pixels(FREQUENCY))
