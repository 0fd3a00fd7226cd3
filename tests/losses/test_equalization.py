import math

import pytest
import torch
import torch.nn.functional as F

from longtail.errors import ConfigError
from longtail.frequency import ClassFrequency
from longtail.losses.equalization import EqualizationLoss, equalization_loss, softmax_equalization_logits
from longtail.losses.label_space import LabelSpace
from support.labels import boxes, counted, pixels

C = 5
RARE = torch.tensor([False, True, False, True, False])
#: Of 10,000 images, or of the pixels: two rare classes.
COUNTS = {"images": [5000, 1, 5000, 1, 5000], "pixels": [5000, 1, 5000, 1, 5000], "num_images": 10_000}
EVEN = {"images": [5000] * C, "pixels": [5000] * C, "num_images": 10_000}


def rows(count=30, background=False):
    return 2 * torch.randn(count, C, dtype=torch.float64), torch.randint(0, C + background, (count,))


def literal(logits, target):
    values = []
    for o, y in zip(logits.tolist(), target.tolist(), strict=True):
        total = 0.0
        for c in range(C):
            t = float(y == c)
            weight = 1 - float(y < C) * float(RARE[c]) * (1 - t)
            p = 1 / (1 + math.exp(-o[c]))
            total -= weight * (t * math.log(p) + (1 - t) * math.log(1 - p))
        values.append(total)
    return torch.tensor(values, dtype=torch.float64)


def test_value_by_hand():
    # logits 0: every binary cross-entropy is log 2. Five classes, two rare.
    loss = EqualizationLoss(boxes(C, **COUNTS))
    zeros = torch.zeros(1, C)
    for target, terms in ((0, 3), (1, 4), (C, 5)):  # common: both rare are spared; rare: the other; background: none
        assert loss(zeros, torch.tensor([target])).item() == pytest.approx(terms * math.log(2))
    # softmax: label 0 and both rare classes spared leaves three equal classes
    softmax = EqualizationLoss(pixels(C, **COUNTS), spared=1.0)
    assert softmax(zeros, torch.tensor([0])).item() == pytest.approx(math.log(3))
    assert softmax(zeros, torch.tensor([1])).item() == pytest.approx(math.log(4))


def test_equals_the_literal_equation():
    logits, target = rows(background=True)
    torch.testing.assert_close(equalization_loss(logits, target, RARE), literal(logits, target))


def test_softmax_form_equals_the_literal_equation():
    logits, target = rows()
    drawn = (torch.rand(logits.shape) < 0.6) & RARE
    found = F.cross_entropy(softmax_equalization_logits(logits, target, drawn), target, reduction="none")
    weight = torch.where(drawn, 0.0, 1.0).to(logits)
    weight[torch.arange(30), target] = 1
    total = (weight * logits.exp()).sum(1)
    torch.testing.assert_close(found, total.log() - logits.gather(1, target[:, None]).squeeze(1))


def test_without_rare_classes_it_is_the_plain_loss():
    logits, target = rows(background=True)
    loss = EqualizationLoss(boxes(C, **EVEN))
    wanted = F.one_hot(target, C + 1)[:, :C].double()
    expected = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1).mean()
    torch.testing.assert_close(loss(logits, target), expected)
    maps, labels = torch.randn(2, C, 3, 4), torch.randint(0, C, (2, 3, 4))
    labels[0, 0] = 255
    expected = F.cross_entropy(maps, labels, ignore_index=255)
    torch.testing.assert_close(EqualizationLoss(pixels(C, **EVEN))(maps, labels), expected)
    torch.testing.assert_close(EqualizationLoss(pixels(C, **COUNTS), spared=0.0)(maps, labels), expected)


def test_a_rare_class_is_spared_at_the_given_rate():
    loss = EqualizationLoss(pixels(2, pixels=[9000, 1]), spared=0.75)
    logits = torch.zeros(40_000, 2, requires_grad=True)
    loss(logits, torch.zeros(40_000, dtype=torch.long)).backward()
    assert (logits.grad[:, 1] == 0).float().mean().item() == pytest.approx(0.75, abs=0.02)


def test_objects_of_other_classes_send_no_gradient_to_rare_ones():
    logits, target = rows(background=True)
    logits.requires_grad_()
    EqualizationLoss(boxes(C, **COUNTS))(logits, target).backward()
    others = (target[:, None] != torch.arange(C)) & (target < C)[:, None] & RARE
    assert not logits.grad[others].any() and logits.grad[~others].all()


def test_gradcheck():
    logits, target = rows(6, background=True)
    loss = EqualizationLoss(boxes(C, **COUNTS))
    assert torch.autograd.gradcheck(lambda o: loss(o, target), logits.requires_grad_())
    softmax = EqualizationLoss(pixels(C, **COUNTS), spared=1.0)
    assert torch.autograd.gradcheck(lambda o: softmax(o, target.clamp(max=C - 1)), logits)


def test_rare_classes_by_images_or_pixels():
    frequency = ClassFrequency.from_dict(
        {"class_names": ["a", "b", "c"], "images": [1, 2, 900], "pixels": [5, 1, 994], "num_images": 1000}
    )
    assert EqualizationLoss(LabelSpace.of_boxes(frequency)).rare.tolist() == [True, False, False]
    assert EqualizationLoss(LabelSpace.of_boxes(frequency), threshold=0.01).rare.tolist() == [
        True,
        True,
        False,
    ]
    assert EqualizationLoss(LabelSpace.of_pixels(frequency)).rare.tolist() == [False, True, False]
    with pytest.raises(ConfigError, match="no number of images"):
        EqualizationLoss(boxes(1, images=[1]))
    with pytest.raises(ConfigError, match="has no counts"):
        EqualizationLoss(boxes(2))


def test_reading_and_start():
    loss = EqualizationLoss(boxes(2, images=[9, 9], num_images=10))
    assert loss.num_logits == 2
    torch.testing.assert_close(loss.probabilities(torch.tensor([[0.0, -100.0]])), torch.tensor([[0.5, 0.0, 0.5]]))
    torch.testing.assert_close(loss.initial_bias.sigmoid(), torch.full((2,), 0.001))
    assert EqualizationLoss(pixels(2, pixels=[1, 1])).initial_bias is None


@pytest.mark.parametrize("background", [False, True])
def test_ignored_weighted_and_extreme(background):
    labels = LabelSpace(C + background, background, -100, counted(C, **COUNTS))
    loss = EqualizationLoss(labels, spared=1.0)
    logits = (100 * torch.randn(20, C).sign()).requires_grad_()
    target = torch.randint(0, C, (20,))
    target[:4] = -100
    weight = torch.rand(20)
    each = [16 * loss(logits, target.where(torch.arange(20) == i, -100)) / 16 for i in range(4, 20)]
    found = loss(logits, target, weight)
    torch.testing.assert_close(found, (torch.stack(each) * weight[4:]).sum() / 16)
    found.backward()
    assert found.isfinite() and logits.grad.isfinite().all() and not logits.grad[:4].any()
    for count in (0, 3):
        logits = torch.randn(count, C, requires_grad=True)
        value = loss(logits, torch.full((count,), -100))
        value.backward()
        assert value.item() == 0 and not logits.grad.any()
