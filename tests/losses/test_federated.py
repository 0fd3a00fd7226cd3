import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from longtail.errors import ConfigError
from longtail.frequency import ClassFrequency
from longtail.losses.federated import FederatedLoss, federated_loss, sample_classes
from longtail.losses.label_space import LabelSpace
from support.labels import boxes, pixels

C = 6
LABELS = boxes(C, images=[1] * C)


def rows(count=20):
    return 2 * torch.randn(count, C, dtype=torch.float64), torch.randint(0, C + 1, (count,))


def test_value_by_hand():
    # logits 0, the batch shows class 2 only and draws one class more: two binary cross-entropies for each box
    loss = FederatedLoss(LABELS, sampled=2)
    assert loss(torch.zeros(3, C), torch.tensor([2, 2, C])).item() == pytest.approx(2 * math.log(2))


def test_equals_the_literal_sum():
    logits, target = rows()
    classes = torch.tensor([True, False, True, True, False, False])
    expected = [
        -sum(math.log(p if y == c else 1 - p) for c, p in enumerate(1 / (1 + math.exp(-v)) for v in o) if classes[c])
        for o, y in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    found = federated_loss(logits, target, classes)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_all_classes_are_binary_cross_entropy():
    logits, target = rows()
    wanted = F.one_hot(target, C + 1)[:, :C].double()
    expected = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1).mean()
    for loss in (
        FederatedLoss(LABELS),
        FederatedLoss(LABELS, sampled=1).eval(),
    ):
        torch.testing.assert_close(loss(logits, target), expected)


def test_the_labels_stay_and_the_background_is_none():
    chosen = sample_classes(torch.tensor([1, 4, C, 1]), torch.ones(C), 1)
    assert chosen.tolist() == [False, True, False, False, True, False]
    assert sample_classes(torch.tensor([C]), torch.ones(C), 4).sum() == 4
    # a class without images is never drawn, be there too few others
    assert sample_classes(torch.tensor([0]), torch.tensor([1.0, 0, 1, 1, 0, 0]), 6).tolist() == [
        True, False, True, True, False, False,
    ]  # fmt: skip


def test_a_class_that_no_image_shows_is_drawn_as_if_one_did():
    frequency = ClassFrequency(("a", "b"), images=np.array([4, 0]), num_images=9, instances=np.array([5, 0]))
    assert FederatedLoss(LabelSpace.of_boxes(frequency)).chance.tolist() == [2.0, 1.0]


def test_drawn_in_proportion():
    chance = torch.tensor([3.0, 1.0])
    drawn = torch.stack([sample_classes(torch.tensor([2]), chance, 1) for _ in range(2000)]).float().mean(0)
    assert drawn[0].item() == pytest.approx(0.75, abs=0.03)


def test_seeded_by_torch_and_other_classes_get_no_gradient():
    logits, target = torch.randn(5, C, requires_grad=True), torch.tensor([0, 0, 1, C, C])
    loss = FederatedLoss(LABELS, sampled=3)
    values = []
    for _ in range(2):
        torch.manual_seed(5)
        values.append(loss(logits, target).item())
    assert values[0] == values[1]
    loss(logits, target).backward()
    assert (logits.grad != 0).any(0).sum() == 3 and logits.grad[:, :2].all()


def test_gradcheck():
    logits, target = rows(6)
    loss = FederatedLoss(LABELS).eval()
    assert torch.autograd.gradcheck(lambda o: loss(o, target), logits.requires_grad_())


def test_chances_of_counted_data():
    labels = boxes(2, images=[4, 9])
    assert FederatedLoss(labels).chance.tolist() == [2, 3]
    assert FederatedLoss(labels, power=1, sampled=7).sampled == 7
    with pytest.raises(ConfigError, match="for boxes"):
        FederatedLoss(pixels(2, images=[1, 2]))
    with pytest.raises(ConfigError, match="has no counts"):
        FederatedLoss(boxes(3))
    with pytest.raises(ConfigError, match="at least one"):
        FederatedLoss(labels, sampled=0)


def test_ignored_weighted_and_extreme():
    loss = FederatedLoss(LABELS)
    logits = (100 * torch.randn(20, C).sign()).requires_grad_()
    target = torch.randint(0, C + 1, (20,))
    target[:4] = -100
    found = loss(logits, target, torch.full((20,), 0.25))
    torch.testing.assert_close(found, loss(logits[4:], target[4:]) / 4)
    found.backward()
    assert found.isfinite() and logits.grad.isfinite().all() and not logits.grad[:4].any()
    assert loss.num_logits == C and loss.probabilities(logits).shape == (20, C + 1)
    for count in (0, 3):
        logits = torch.randn(count, C, requires_grad=True)
        value = loss(logits, torch.full((count,), -100))
        value.backward()
        assert value.item() == 0 and not logits.grad.any()
