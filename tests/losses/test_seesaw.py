import math

import pytest
import torch
import torch.nn.functional as F

from longtail.losses.label_space import LabelSpace
from longtail.losses.seesaw import SeesawLoss, seesaw_logits
from support.labels import boxes

C = 5


def rows(count=30, logits=C, classes=C, dtype=torch.float64):
    return 2 * torch.randn(count, logits, dtype=dtype), torch.randint(0, classes, (count,))


def literal(logits, target, counts, p, q, eps):
    """-log of the equation's softmax, one position at a time."""
    values = []
    for o, y in zip(logits.tolist(), target.tolist(), strict=True):
        total = sum(map(math.exp, o))
        chance = [math.exp(v) / total for v in o]
        seen = [max(n, 1) for n in counts]
        s = [
            1.0 if j == y else min(1, seen[j] / seen[y]) ** p * max(1, chance[j] / max(chance[y], eps)) ** q
            for j in range(len(o))
        ]
        values.append(-math.log(math.exp(o[y]) / sum(w * math.exp(v) for w, v in zip(s, o, strict=True))))
    return values


def test_value_by_hand():
    # equal logits: no compensation. Label 0 with N = (100, 1): S_01 = (1/100)^0.5 = 0.1, so p = 1 / 1.1.
    loss = SeesawLoss(2, mitigation=0.5).eval()
    loss.counts.copy_(torch.tensor([100, 1]))
    assert loss(torch.zeros(1, 2), torch.tensor([0])).item() == pytest.approx(math.log(1.1))
    # label 1 is rare: the frequent class pushes it down in full
    assert loss(torch.zeros(1, 2), torch.tensor([1])).item() == pytest.approx(math.log(2))
    # compensation: chances (3/4, 1/4), label 1: S_10 = 3^2; p = 1 / (1 + 27) in the softmax, 3 * 9 = 27
    loss = SeesawLoss(2).eval()
    assert loss(torch.tensor([[math.log(3), 0.0]]), torch.tensor([1])).item() == pytest.approx(math.log(28))


@pytest.mark.parametrize(("p", "q", "eps"), [(0.8, 2.0, 0.01), (0.0, 1.0, 0.2), (1.3, 0.0, 0.01)])
def test_equals_the_literal_equation(p, q, eps):
    logits, target = rows()
    counts = [0, 1, 7, 300, 20]
    found = seesaw_logits(logits, target, torch.tensor(counts), mitigation=p, compensation=q, eps=eps)
    each = F.cross_entropy(found, target, reduction="none")
    torch.testing.assert_close(each, torch.tensor(literal(logits, target, counts, p, q, eps), dtype=torch.float64))


def test_without_powers_it_is_cross_entropy():
    logits, target = torch.randn(2, C, 3, 4), torch.randint(0, C, (2, 3, 4))
    target[0, 0] = 255
    loss = SeesawLoss(C, mitigation=0, compensation=0)
    torch.testing.assert_close(loss(logits, target), F.cross_entropy(logits, target, ignore_index=255))
    torch.testing.assert_close(loss.probabilities(logits), logits.softmax(1))
    # boxes: background against object over all, classes over the objects, both divided by all
    of_boxes = SeesawLoss(boxes(C), mitigation=0, compensation=0)
    logits, target = rows(logits=C + 2, classes=C + 1)
    objects = target < C
    expected = F.cross_entropy(logits[:, C:], objects.long(), reduction="sum")
    expected += F.cross_entropy(logits[objects, :C], target[objects], reduction="sum")
    assert of_boxes.num_logits == C + 2
    torch.testing.assert_close(of_boxes(logits, target), expected / len(target))


def test_equal_counts_and_a_certain_label_leave_cross_entropy():
    logits, target = rows()
    logits[torch.arange(len(target)), target] += 50
    torch.testing.assert_close(seesaw_logits(logits, target, torch.full((C,), 9)), logits)


def test_counts_in_training_only_and_never_the_background():
    loss = SeesawLoss(boxes(C))
    target = torch.tensor([0, 0, 3, C, -100])
    loss(torch.randn(5, C + 2), target)
    assert loss.counts.tolist() == [2, 0, 0, 1, 0]
    loss.eval()(torch.randn(5, C + 2), target)
    assert loss.counts.tolist() == [2, 0, 0, 1, 0]


def test_the_batch_itself_is_counted_first():
    loss, logits = SeesawLoss(2, compensation=0), torch.zeros(4, 2)
    # N = (3, 1): S_01 = 1/3^0.8
    expected = (3 * math.log(1 + 3**-0.8) + math.log(2)) / 4
    assert loss(logits, torch.tensor([0, 0, 0, 1])).item() == pytest.approx(expected)


def test_state_survives():
    loss = SeesawLoss(C)
    for _ in range(3):
        loss(*rows())
    resumed = SeesawLoss(C)
    resumed.load_state_dict(loss.state_dict())
    batch = rows()
    assert resumed.counts.sum() == 90
    assert torch.equal(loss(*batch), resumed(*batch))


def test_probabilities_of_boxes():
    loss = SeesawLoss(boxes(2))
    logits = torch.tensor([[math.log(3), 0.0, math.log(1), math.log(4)]])  # background 1/5, object 4/5
    torch.testing.assert_close(loss.probabilities(logits), torch.tensor([[0.6, 0.2, 0.2]]))


def test_position_weight():
    loss = SeesawLoss(boxes(C)).eval()
    logits, target = rows(logits=C + 2, classes=C + 1)
    target[:3] = -100
    weight = torch.rand(len(target), dtype=torch.float64)
    each = [len(target[3:]) * loss(logits, target.where(torch.arange(30) == i, -100)) / 27 for i in range(3, 30)]
    torch.testing.assert_close(loss(logits, target, weight), (torch.stack(each) * weight[3:]).sum() / 27)


def test_gradient_takes_the_factors_as_constants():
    logits, target = rows(8)
    loss = SeesawLoss(C).eval()
    loss.counts.copy_(torch.tensor([3, 90, 1, 4, 1000]))
    logits.requires_grad_()
    loss(logits, target).backward()
    with torch.no_grad():
        expected = seesaw_logits(logits, target, loss.counts).softmax(1) - F.one_hot(target, C)
    torch.testing.assert_close(logits.grad, expected / 8)
    loss.compensation = 0.0
    assert torch.autograd.gradcheck(lambda o: loss(o, target), logits)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("shape", [(0,), (4,), (2, 3, 3)])
def test_nothing_labelled(background, shape):
    loss = SeesawLoss(LabelSpace(C + background, background, -100))
    logits = torch.randn(shape[0], loss.num_logits, *shape[1:], requires_grad=True)
    value = loss(logits, torch.full(shape, -100))
    value.backward()
    assert value.item() == 0 and not logits.grad.any() and not loss.counts.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_extreme_logits(dtype):
    loss = SeesawLoss(boxes(C))
    logits = (100 * torch.randn(20, C + 2).sign()).to(dtype).requires_grad_()
    value = loss(logits, torch.randint(0, C + 1, (20,)))
    value.backward()
    assert value.isfinite() and value.dtype == torch.float32 and logits.grad.isfinite().all()
