import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups
from longtail.losses.base import ClassificationLoss
from longtail.losses.cross_entropy import CrossEntropy
from longtail.losses.focal import FocalLoss, sigmoid_focal
from longtail.mec.losses import MultiExpertLoss, expert_losses
from support.labels import boxes

C = 7  # foreground classes; 7 is the background
GROUPS = ((0, 3, 6), (1, 2), (4, 5))


class FirstColumns(ClassificationLoss):
    """Reads one logit more than there are classes, as seesaw does."""

    @property
    def num_logits(self) -> int:
        return self.num_classes + 1

    def forward(self, logits: Tensor, target: Tensor, position_weight: Tensor | None = None) -> Tensor:
        each = F.cross_entropy(logits[:, :-1], target, reduction="none")
        return each.mean() if position_weight is None else (position_weight * each).mean()

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits[:, :-1].softmax(dim=1)


def sample(rows: int = 40, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, C + 1, dtype=dtype) * 3, torch.randint(0, C + 1, (rows,))


def literal(logits: Tensor, target: Tensor, group: tuple[int, ...], weight: float, outside: str = "plain") -> float:
    """Eq. 1-2 as printed, one row at a time."""
    total = 0.0
    for o, y in zip(logits.tolist(), target.tolist(), strict=True):
        p = math.exp(o[y]) / sum(math.exp(v) for v in o)
        if y in group:
            p_hat = p**weight * (math.exp(o[y]) / sum(math.exp(o[j]) for j in group)) ** (1 - weight)
        else:
            p_hat = p**weight if outside == "lambda" and y != len(o) - 1 else p
        total -= math.log(p_hat)
    return total / len(target)


def test_value_by_hand() -> None:
    # logits 0 everywhere: CE is log 4 over all, log 2 within the group
    loss = MultiExpertLoss((0, 2), 4, overall_weight=0.5)
    logits = torch.zeros(2, 4)
    inside = 0.5 * math.log(4) + 0.5 * math.log(2)
    assert loss(logits, torch.tensor([0, 1])).item() == pytest.approx((inside + math.log(4)) / 2)
    assert loss(logits, torch.tensor([2, 2])).item() == pytest.approx(inside)
    assert loss(logits, torch.tensor([3, 3])).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("outside", ["plain", "lambda"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("group", [*GROUPS, (), tuple(range(C))])
def test_equals_the_literal_equation(group: tuple[int, ...], weight: float, outside: str) -> None:
    logits, target = sample()
    loss = MultiExpertLoss(group, C + 1, overall_weight=weight, outside=outside)
    weight = weight if group else 1.0 if outside == "plain" else weight
    assert loss(logits, target).item() == pytest.approx(literal(logits, target, group, weight, outside), rel=1e-12)


@pytest.mark.parametrize("outside", ["plain", "lambda"])
@pytest.mark.parametrize("weight", [0.4, 1.0])
def test_injected_base_equals_the_built_in_one(weight: float, outside: str) -> None:
    logits, target = sample()
    target[:5] = -100
    plain = MultiExpertLoss(GROUPS[0], C + 1, overall_weight=weight, outside=outside)
    base = MultiExpertLoss(GROUPS[0], C + 1, overall_weight=weight, outside=outside, base=CrossEntropy(boxes(C)))
    assert torch.allclose(plain(logits, target), base(logits, target), rtol=1e-12)


def test_weight_one_is_plain_cross_entropy_with_its_gradient() -> None:
    logits, target = sample(dtype=torch.float32)
    gradients = []
    for loss in (MultiExpertLoss(GROUPS[1], C + 1, overall_weight=1.0), F.cross_entropy):
        leaf = logits.clone().requires_grad_()
        loss(leaf, target).backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


def test_gradient_formula() -> None:
    logits, target = sample(12)
    logits.requires_grad_()
    weight, group = 0.3, list(GROUPS[0])
    MultiExpertLoss(group, C + 1, overall_weight=weight)(logits, target).backward()
    expected = torch.zeros_like(logits)
    for row, y in enumerate(target.tolist()):
        p, one_hot = logits[row].detach().softmax(0), F.one_hot(torch.tensor(y), C + 1)
        expected[row] = p - one_hot
        if y in group:
            expected[row] *= weight
            expected[row, group] += (1 - weight) * (logits[row, group].detach().softmax(0) - one_hot[group])
    assert torch.allclose(logits.grad, expected / 12, atol=1e-14)
    assert logits.grad.sum(1).abs().max() < 1e-15


def test_weight_zero_leaves_other_groups_alone() -> None:
    logits = torch.randn(6, C + 1, dtype=torch.float64, requires_grad=True)
    MultiExpertLoss(GROUPS[0], C + 1, overall_weight=0.0)(logits, torch.tensor([0, 3, 6, 0, 3, 6])).backward()
    outside = [1, 2, 4, 5, 7]
    assert logits.grad[:, outside].eq(0).all()
    assert logits.grad[:, list(GROUPS[0])].ne(0).all()


def test_a_group_of_one_class_adds_nothing() -> None:
    logits, _ = sample(4)
    target = torch.full((4,), 2)
    loss = MultiExpertLoss((2,), C + 1, overall_weight=0.6)(logits, target)
    assert torch.allclose(loss, 0.6 * F.cross_entropy(logits, target))


def test_positions_with_a_grid() -> None:
    logits, target = torch.randn(2, C + 1, 3, 4, dtype=torch.float64), torch.randint(0, C + 1, (2, 3, 4))
    target[0, 0] = -100
    rows = logits.movedim(1, -1).flatten(0, -2)
    for base in (None, CrossEntropy(boxes(C))):
        loss = MultiExpertLoss(GROUPS[2], C + 1, base=base)
        assert torch.allclose(loss(logits, target), loss(rows, target.flatten()), rtol=1e-12)


@pytest.mark.parametrize("base", [None, CrossEntropy(boxes(C))])
def test_gradcheck(base: ClassificationLoss | None) -> None:
    logits, target = sample(6)
    target[0], target[1] = 0, -100
    loss = MultiExpertLoss(GROUPS[0], C + 1, base=base)
    assert torch.autograd.gradcheck(lambda o: loss(o, target), logits.requires_grad_())


@pytest.mark.parametrize("size", [100.0, 1e4])
def test_finite_at_large_logits(size: float) -> None:
    logits = (torch.randint(0, 2, (50, C + 1)) * 2 - 1.0) * size
    logits.requires_grad_()
    loss = MultiExpertLoss(GROUPS[0], C + 1)(logits, torch.randint(0, C + 1, (50,)))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("rows", [0, 5])
@pytest.mark.parametrize("base", [None, CrossEntropy(boxes(C))])
def test_nothing_labelled(rows: int, base: ClassificationLoss | None) -> None:
    logits = torch.randn(rows, C + 1, requires_grad=True)
    loss = MultiExpertLoss(GROUPS[0], C + 1, base=base)(logits, torch.full((rows,), -100))
    loss.backward()
    assert loss.item() == 0.0 and logits.grad.eq(0).all()


def test_base_owns_the_reading_of_the_logits() -> None:
    loss = MultiExpertLoss(GROUPS[0], C + 1, base=FirstColumns(boxes(C)))
    assert loss.num_logits == C + 2
    logits = torch.randn(3, C + 2)
    assert torch.equal(loss.probabilities(logits), logits[:, :-1].softmax(1))
    target = torch.tensor([0, 1, C])
    plain = MultiExpertLoss(GROUPS[0], C + 1)
    assert torch.allclose(loss(logits, target), plain(logits[:, :-1], target))


def test_the_group_is_divided_by_as_its_base() -> None:
    logits, target = sample()
    logits = logits[:, :C]  # sigmoids have none for the background
    base = FocalLoss(boxes(C), kind="sigmoid")
    found = MultiExpertLoss(GROUPS[0], C + 1, overall_weight=0.6, base=base)(logits, target)
    total = 0.0
    for o, y in zip(logits, target.tolist(), strict=True):
        own = sigmoid_focal(o[None], torch.tensor([y]), ignore_index=-100).item()
        if y in GROUPS[0]:
            own = 0.6 * own - 0.4 * o[list(GROUPS[0])].log_softmax(0)[GROUPS[0].index(y)].item()
        total += own
    assert found.item() == pytest.approx(total / (target < C).sum().item())


def test_stage_k_is_the_expert_of_group_k() -> None:
    groups = CategoryGroups.by_count([3, 50, 20, 9, 400, 100, 0])
    losses = expert_losses(groups, overall_weight=0.2, base=lambda: CrossEntropy(boxes(C)))
    assert [loss.group for loss in losses] == [(0, 3, 6), (1, 2), (4, 5)]
    assert len({id(loss.loss) for loss in losses}) == 3
    assert all(loss.overall_weight == 0.2 and loss.num_classes == C + 1 for loss in losses)


def test_more_classes_than_255() -> None:
    loss = MultiExpertLoss(range(250, 260), 1204)
    logits = torch.randn(4, 1204)
    everyone = torch.tensor([255, 255, 255, 255])
    assert loss(logits, everyone) > 1.0


@pytest.mark.parametrize(
    "arguments",
    [
        {"overall_weight": 1.1},
        {"overall_weight": float("nan")},
        {"outside": "never"},
        {"group": (0, C)},
        {"group": (1, 1)},
        {"ignore_index": 5},
        {"base": CrossEntropy(boxes(C - 1))},
    ],
)
def test_refusals(arguments: dict) -> None:
    with pytest.raises((ConfigError, Exception)) as caught:
        MultiExpertLoss(**{"group": (0, 1), "num_classes": C + 1, **arguments})
    assert isinstance(caught.value, ConfigError) or arguments.get("outside") == "never"


def test_half_precision_logits() -> None:
    logits, target = sample(dtype=torch.float32)
    loss = MultiExpertLoss(GROUPS[0], C + 1)
    half = logits.half().requires_grad_()
    value = loss(half, target)
    value.backward()
    assert value.dtype == torch.float32 and half.grad.isfinite().all()
    assert torch.allclose(value, loss(logits.half().float(), target))
