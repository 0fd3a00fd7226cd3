import math

import pytest
import torch
import torch.nn.functional as F

from longtail.losses.equalization_v2 import EqualizationLossV2, gradient_weights
from longtail.losses.label_space import LabelSpace
from support.labels import boxes

C = 4


def rows(count=30, classes=C + 1):
    return 2 * torch.randn(count, C + 1, dtype=torch.float64), torch.randint(0, classes, (count,))


class Literal:
    """The paper, one number at a time."""

    def __init__(self):
        self.positive, self.negative = [0.0] * C, [0.0] * C

    def __call__(self, logits, target):
        f = []
        for p, n in zip(self.positive, self.negative, strict=True):
            ratio = 100.0 if p + n == 0 else p / (n + 1e-10)
            f.append(1 / (1 + math.exp(-12 * (ratio - 0.8))))
        total = 0.0
        for o, y in zip(logits.tolist(), target.tolist(), strict=True):
            for c in range(C + 1):
                chance = 1 / (1 + math.exp(-o[c]))
                weight = 1.0 if c == C else 1 + 4 * (1 - f[c]) if y == c else f[c]
                total -= weight * math.log(chance if y == c else 1 - chance)
                if c < C and y == c:
                    self.positive[c] += weight * (1 - chance)
                elif c < C:
                    self.negative[c] += weight * chance
        return total / len(target)


def test_value_by_hand():
    # R = 0.8 is the centre: f = 1/2, so positives weigh 1 + 4/2 = 3 and negatives 1/2
    weights = gradient_weights(torch.tensor([4.0, 0.0]), torch.tensor([5.0, 0.0]))
    torch.testing.assert_close(torch.stack(weights), torch.tensor([[3.0, 1.0], [0.5, 1.0]]))
    loss = EqualizationLossV2(boxes(2)).eval()
    loss.positive.copy_(torch.tensor([4.0, 0.0]))
    loss.negative.copy_(torch.tensor([5.0, 0.0]))
    zeros = torch.zeros(1, 3)
    assert loss(zeros, torch.tensor([0])).item() == pytest.approx((3 + 1 + 1) * math.log(2))
    assert loss(zeros, torch.tensor([2])).item() == pytest.approx((0.5 + 1 + 1) * math.log(2))


def test_equals_the_literal_paper_over_several_steps():
    loss, literal = EqualizationLossV2(boxes(C)), Literal()
    for _ in range(5):
        logits, target = rows()
        assert loss(logits, target).item() == pytest.approx(literal(logits, target), rel=1e-5)
    torch.testing.assert_close(loss.positive, torch.tensor(literal.positive))
    torch.testing.assert_close(loss.negative, torch.tensor(literal.negative))


def test_gathers_the_gradient_that_autograd_finds():
    loss = EqualizationLossV2(boxes(C))
    logits, target = rows()
    weight = torch.rand(30, dtype=torch.float64)
    logits.requires_grad_()
    loss(logits, target, weight).backward()
    gradient = (30 * logits.grad[:, :C]).abs().float()
    own = target[:, None] == torch.arange(C)
    torch.testing.assert_close(loss.positive, (gradient * own).sum(0))
    torch.testing.assert_close(loss.negative, (gradient * ~own).sum(0))


def test_the_first_step_is_binary_cross_entropy():
    logits, target = rows()
    expected = F.binary_cross_entropy_with_logits(logits, F.one_hot(target, C + 1).double(), reduction="none")
    loss = EqualizationLossV2(boxes(C))
    torch.testing.assert_close(loss(logits, target), expected.sum(1).mean())
    balanced = EqualizationLossV2(boxes(C))
    balanced.positive += 1e6  # more positive than negative gradient: nothing to mend
    torch.testing.assert_close(balanced(logits, target), expected.sum(1).mean())


def test_rare_classes_are_spared_and_their_positives_raised():
    loss = EqualizationLossV2(boxes(C))
    for _ in range(20):
        logits, target = rows()
        target[target == 3] = C  # class 3 is never seen
        loss(logits, target)
    positive, negative = gradient_weights(loss.positive, loss.negative)
    assert negative[3] < 1e-3 and positive[3] > 4.99


def test_state_survives_and_evaluation_changes_nothing():
    loss = EqualizationLossV2(boxes(C))
    loss(*rows())
    resumed = EqualizationLossV2(boxes(C))
    resumed.load_state_dict(loss.state_dict())
    batch = rows()
    assert loss(*batch) == resumed(*batch)
    before = loss.eval().positive.clone()
    loss(*batch)
    assert torch.equal(loss.positive, before)


def test_gradcheck():
    loss = EqualizationLossV2(boxes(C)).double()
    loss(*rows())
    logits, target = rows(6)
    assert torch.autograd.gradcheck(lambda o: loss.eval()(o, target), logits.requires_grad_())


def test_reading_and_start():
    loss = EqualizationLossV2(boxes(2))
    logits = torch.tensor([[0.0, math.log(3), math.log(1 / 3)]])  # 1/2, 3/4, and 1/4 of the background
    torch.testing.assert_close(loss.probabilities(logits), torch.tensor([[0.375, 0.5625, 0.25]]))
    torch.testing.assert_close(loss.initial_bias.sigmoid(), torch.tensor([0.001, 0.001, 0.5]))
    pixels = EqualizationLossV2(2).probabilities(torch.tensor([[[math.log(1 / 3)]], [[-200.0]]]).movedim(0, 1))
    torch.testing.assert_close(pixels, torch.tensor([[[1.0]], [[0.0]]]).movedim(0, 1))


@pytest.mark.parametrize("background", [False, True])
def test_ignored_weighted_and_extreme(background):
    loss = EqualizationLossV2(LabelSpace(C + 1, background, -100))
    logits = (100 * torch.randn(2, C + 1, 3, 3).sign()).requires_grad_()
    target = torch.randint(0, C + 1, (2, 3, 3))
    target[0] = -100
    found = loss(logits, target, torch.full((2, 3, 3), 0.5))
    found.backward()
    assert found.isfinite() and logits.grad.isfinite().all() and not logits.grad[0].any()
    fresh = EqualizationLossV2(LabelSpace(C + 1, background, -100))
    torch.testing.assert_close(found, 0.5 * fresh(logits, target))
    for count in (0, 3):
        logits = torch.randn(count, C + 1, requires_grad=True)
        value = fresh(logits, torch.full((count,), -100))
        value.backward()
        assert value.item() == 0 and not logits.grad.any()
