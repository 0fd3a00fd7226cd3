"""Dice, Tversky and Lovász: by hand, at their limits, against slow references and segmentation-models-pytorch."""

import pytest
import torch

from longtail.errors import ConfigError
from longtail.losses.build import build_loss
from longtail.losses.dice import DiceLoss
from longtail.losses.label_space import LabelSpace
from longtail.losses.lovasz import LovaszLoss, lovasz_misfits
from longtail.losses.tversky import TverskyLoss, tversky_misfits

C = 4


def batch(seed=0, missing=()):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, C, 5, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, C, (2, 5, 6), generator=generator)
    for label in missing:
        target[target == label] = (label + 1) % C
    target[:, 0] = 255
    return logits, target


def slow_dice(logits, target, alpha=0.5, beta=0.5):
    """Position by position, class by class."""
    values = []
    for label in sorted(set(target[target != 255].tolist())):
        hit = too_much = missed = 0.0
        for n, row, column in (target != 255).nonzero().tolist():
            p = float(logits[n, :, row, column].softmax(0)[label])
            if target[n, row, column] == label:
                hit, missed = hit + p, missed + 1 - p
            else:
                too_much += p
        values.append(1 - hit / (hit + alpha * too_much + beta * missed))
    return sum(values) / len(values)


def slow_lovasz(logits, target):
    """The Jaccard loss of the growing set of wrong positions, for every class."""
    values, known = [], (target != 255).nonzero().tolist()
    for label in sorted(set(target[target != 255].tolist())):
        errors = []
        for n, row, column in known:
            p = float(logits[n, :, row, column].softmax(0)[label])
            own = bool(target[n, row, column] == label)
            errors.append((1 - p if own else p, own))
        errors.sort(reverse=True)
        total, before, value = sum(own for _, own in errors), 0.0, 0.0
        for count in range(1, len(errors) + 1):
            wrong = errors[:count]
            lost, extra = sum(own for _, own in wrong), sum(not own for _, own in wrong)
            now = 1 - (total - lost) / (total + extra)
            value, before = value + errors[count - 1][0] * (now - before), now
        values.append(value)
    return sum(values) / len(values)


def test_by_hand():
    # One class of two positions: 0.8 of the first, 0.4 of a position of the other class.
    probabilities, present = torch.tensor([[0.8], [0.4]]), torch.tensor([[1.0], [0.0]])
    # Dice 2 · 0.8 / (1.2 + 1); Tversky 0.8 / (0.8 + 0.3 · 0.4 + 0.7 · 0.2)
    assert tversky_misfits(probabilities, present, 0.5, 0.5).item() == pytest.approx(1 - 1.6 / 2.2)
    assert tversky_misfits(probabilities, present, 0.3, 0.7).item() == pytest.approx(1 - 0.8 / 1.06)
    # errors 0.4 (foreign), 0.2 (own): IoU loses 1/2 with the first, 1/2 with the second
    assert lovasz_misfits(probabilities, present).item() == pytest.approx(0.5 * 0.4 + 0.5 * 0.2)


@pytest.mark.parametrize("missing", [(), (2,)])
def test_equal_slow_references(missing):
    logits, target = batch(missing=missing)
    assert DiceLoss(C, cross_entropy=0)(logits, target).item() == pytest.approx(slow_dice(logits, target))
    found = TverskyLoss(C, cross_entropy=0)(logits, target).item()
    assert found == pytest.approx(slow_dice(logits, target, 0.3, 0.7))
    assert LovaszLoss(C, cross_entropy=0)(logits, target).item() == pytest.approx(slow_lovasz(logits, target))


def test_equal_segmentation_models_pytorch():
    smp = pytest.importorskip("segmentation_models_pytorch")
    logits, target = batch()
    logits = logits.float()
    for ours, theirs in (
        (DiceLoss(C, cross_entropy=0), smp.losses.DiceLoss("multiclass", ignore_index=255)),
        (TverskyLoss(C, cross_entropy=0), smp.losses.TverskyLoss("multiclass", ignore_index=255, alpha=0.3, beta=0.7)),
        (LovaszLoss(C, cross_entropy=0), smp.losses.LovaszLoss("multiclass", ignore_index=255)),
    ):
        torch.testing.assert_close(ours(logits, target), theirs(logits, target), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["dice", "tversky", "lovasz"])
def test_limits(name):
    _, target = batch()
    right = 100.0 * torch.nn.functional.one_hot(target.clamp(max=C - 1), C).movedim(-1, 1).double()
    region = build_loss({"name": name, "cross_entropy": 0.0}, LabelSpace(C))
    assert region(right, target).item() == pytest.approx(0, abs=1e-6)
    wrong = right.roll(1, dims=1)
    assert region(wrong, target).item() == pytest.approx(1, abs=1e-6)
    both = build_loss(name, LabelSpace(C))(right / 50, target) - region(right / 50, target)
    torch.testing.assert_close(both, torch.nn.functional.cross_entropy(right / 50, target, ignore_index=255))


def test_a_rare_class_weighs_as_much_as_a_frequent_one():
    target = torch.zeros(1, 1, 1000, dtype=torch.long)
    target[..., 0] = 1
    logits = torch.zeros(1, 2, 1, 1000)
    logits[:, 0] = 100  # the rare position is missed
    assert DiceLoss(2, cross_entropy=0)(logits, target).item() == pytest.approx(0.5, abs=1e-3)


def test_settings_out_of_range():
    for options in ({"alpha": -1}, {"beta": 0}, {"gamma": 0}, {"cross_entropy": -1}):
        with pytest.raises(ConfigError):
            TverskyLoss(C, **options)
    focal = TverskyLoss(C, gamma=0.75, cross_entropy=0)
    logits, target = batch()
    plain = tversky_misfits(
        *focal._of_classes(logits.movedim(1, -1)[target != 255].softmax(1), target[target != 255]), 0.3, 0.7
    )
    torch.testing.assert_close(focal(logits, target), (plain**0.75).mean())


def test_false_positives_may_weigh_nothing():
    assert TverskyLoss(C, alpha=0.0).alpha == 0
    with pytest.raises(ConfigError, match=r"alpha=-0\.1"):
        TverskyLoss(C, alpha=-0.1)
