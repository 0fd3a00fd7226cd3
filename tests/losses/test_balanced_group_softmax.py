import math

import pytest
import torch
import torch.nn.functional as F

from longtail.errors import ConfigError
from longtail.losses.balanced_group_softmax import BalancedGroupSoftmax, sample_others
from support.labels import boxes, pixels

C = 6
#: Rare classes 1 and 4, none of ten to a hundred, frequent all others.
LABELS = boxes(C, instances=[500, 5, 500, 500, 5, 500])


def bags(ratio=1e9):
    return BalancedGroupSoftmax(LABELS, edges=(10, 100), ratio=ratio)


def rows(count=40, dtype=torch.float64):
    return 2 * torch.randn(count, C + 4, dtype=dtype), torch.randint(0, C + 1, (count,))


def softmax(values):
    total = sum(map(math.exp, values))
    return [math.exp(v) / total for v in values]


def literal(logits, target):
    """Every group's cross-entropy with all the others kept; column 7 is "an object", 8 and 9 the groups' "others"."""
    total = -sum(
        math.log(softmax([o[6], o[7]])[int(y < C)]) for o, y in zip(logits.tolist(), target.tolist(), strict=True)
    )
    for others, ids in ((8, (1, 4)), (9, (0, 2, 3, 5))):
        if not any(y in ids for y in target.tolist()):
            continue
        for o, y in zip(logits.tolist(), target.tolist(), strict=True):
            total -= math.log(softmax([o[others], *(o[c] for c in ids)])[ids.index(y) + 1 if y in ids else 0])
    return total / len(target)


def test_value_by_hand():
    # logits 0: log 2 for object or background, log 3 in the rare group, log 5 in the frequent one
    loss, zeros = bags(), torch.zeros(2, C + 4)
    assert loss.num_logits == C + 4
    assert loss(zeros, torch.tensor([1, 2])).item() == pytest.approx(math.log(2) + math.log(3) + math.log(5))
    # no box of the rare group: it learns nothing
    assert loss(zeros, torch.tensor([C, 2])).item() == pytest.approx(math.log(2) + math.log(5))
    assert loss(zeros, torch.tensor([C, C])).item() == pytest.approx(math.log(2))


def test_equals_the_literal_sum():
    for labels in (C + 1, 1):
        logits, target = rows()
        target = target.clamp(max=labels - 1)
        assert bags()(logits, target).item() == pytest.approx(literal(logits, target))


def test_one_group_with_certain_objects_is_cross_entropy():
    loss = BalancedGroupSoftmax(LABELS, edges=())
    logits, target = torch.randn(30, C + 3), torch.randint(0, C, (30,))
    logits[:, C], logits[:, C + 2] = -1e4, -1e4  # no background, no others
    torch.testing.assert_close(loss(logits, target), F.cross_entropy(logits[:, :C], target))
    torch.testing.assert_close(loss.probabilities(logits)[:, :C], logits[:, :C].softmax(1))


def test_probabilities_literally():
    logits, _ = rows(7)
    found = bags().probabilities(logits)
    for o, p in zip(logits.tolist(), found.tolist(), strict=True):
        background, thing = softmax([o[6], o[7]])
        rare, frequent = softmax([o[8], o[1], o[4]]), softmax([o[9], o[0], o[2], o[3], o[5]])
        expected = [frequent[1], rare[1], frequent[2], frequent[3], rare[2], frequent[4]]
        assert p == pytest.approx([*(thing * v for v in expected), background])


def test_a_raised_logit_raises_its_own_class():
    logits = torch.zeros(1, C + 4)
    for c in range(C + 1):
        raised = logits.clone()
        raised[0, c] = 3
        change = bags().probabilities(raised) - bags().probabilities(logits)
        assert change[0].argmax() == c and change[0, c] > 0


def test_others_are_drawn():
    others = torch.tensor([True] * 90 + [False] * 10)
    for ratio, kept in ((0.0, 10), (0.35, 13), (8.0, 90), (9.0, 100), (50.0, 100)):
        mask = sample_others(others, ratio)
        assert mask.sum() == kept and mask[90:].all()
    assert not sample_others(torch.ones(5, dtype=torch.bool), 8.0).any()
    drawn = torch.stack([sample_others(others, 2.0) for _ in range(300)]).float().mean(0)
    assert (drawn[:90] - 20 / 90).abs().max() < 0.12
    torch.manual_seed(3)
    first = sample_others(others, 2.0)
    torch.manual_seed(3)
    assert torch.equal(first, sample_others(others, 2.0))


def test_groups_are_divided_by_what_they_kept():
    # 9 background boxes and one rare, ratio 2: the rare group keeps 3 boxes at log 3 each, the mean is log 3
    target = torch.tensor([C] * 9 + [1])
    value = bags(2.0)(torch.zeros(10, C + 4), target, torch.full((10,), 2.0))
    assert value.item() == pytest.approx(2 * (math.log(2) + math.log(3)))


def test_gradcheck_and_state():
    logits, target = rows(6)
    loss = bags()
    assert torch.autograd.gradcheck(lambda o: loss(o, target), logits.requires_grad_())
    assert not loss.state_dict()


def test_groups_of_counted_data():
    labels = boxes(4, instances=[9, 10, 5000, 99])
    loss = BalancedGroupSoftmax(labels)
    assert loss.sizes == (1, 2, 1) and loss.num_logits == 4 + 2 + 3
    assert BalancedGroupSoftmax(labels, edges=(50,), ratio=2).sizes == (2, 2)
    with pytest.raises(ConfigError, match="for boxes"):
        BalancedGroupSoftmax(pixels(2, instances=[1, 2]))
    with pytest.raises(ConfigError, match="has no counts"):
        BalancedGroupSoftmax(boxes(4))
    with pytest.raises(ConfigError, match="ratio"):
        bags(-1.0)


def test_ignored_and_extreme():
    loss = bags()
    logits = (100 * torch.randn(20, C + 4).sign()).requires_grad_()
    target = torch.randint(0, C + 1, (20,))
    target[:4] = -100
    found = loss(logits, target)
    torch.testing.assert_close(found, loss(logits[4:], target[4:]))
    found.backward()
    assert found.isfinite() and logits.grad.isfinite().all() and not logits.grad[:4].any()
    for count in (0, 3):
        logits = torch.randn(count, C + 4, requires_grad=True)
        value = loss(logits, torch.full((count,), -100))
        value.backward()
        assert value.item() == 0 and not logits.grad.any()
