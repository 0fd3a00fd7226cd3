"""Eq. 2 for detectors that bring their own loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from longtail.detection.matches import Matches
from longtail.errors import ConfigError
from longtail.losses.focal import sigmoid_focal
from longtail.mec.matched import MatchedExpertLoss

C = 6
GROUP = (0, 2, 5)
NO_OBJECT = C


def focal(logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
    return sigmoid_focal(logits, labels, ignore_index=-1)


def binary(logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(
        logits, F.one_hot(labels, C + 1)[:, :-1].to(logits), reduction="none"
    ).sum(1)


def varifocal(logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
    """RT-DETR's and D-FINE's: the target is the quality of the match, which is also its weight."""
    wanted = F.one_hot(labels, C + 1)[:, :-1].to(logits)
    weight = 0.75 * logits.detach().sigmoid() ** 2 * (1 - wanted) + wanted * quality[:, None]
    target = wanted * quality[:, None]
    return F.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="none").sum(1)


def softmax(logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


BASES = {"focal": focal, "binary": binary, "varifocal": varifocal, "softmax": softmax}


def matched(logits: Tensor, labels: Tensor, quality: Tensor, base, divisor: float, weighted: bool) -> Matches:
    rows = (labels != NO_OBJECT).nonzero().squeeze(1)

    def own(of: Tensor) -> Tensor:
        return base(logits[rows[of]], labels[rows[of]], quality[rows[of]]).sum()

    return Matches(logits[rows], labels[rows], own, divisor, quality[rows] if weighted else None)


def literal(each, logits, labels, quality, lam, outside, weighted) -> float:
    """The definition, a query at a time."""
    total = 0.0
    for own, o, y, u in zip(each.tolist(), logits.tolist(), labels.tolist(), quality.tolist(), strict=True):
        if y in GROUP:
            within = -math.log(math.exp(o[y]) / sum(math.exp(o[c]) for c in GROUP))
            own = lam * own + (1 - lam) * (u if weighted else 1.0) * within
        elif y != NO_OBJECT and outside == "lambda":
            own = lam * own
        total += own
    return total


def sample(base: str, rows: int = 30, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    width = C + (base == "softmax")
    return torch.randn(rows, width, dtype=dtype) * 2, torch.randint(0, C + 1, (rows,)), torch.rand(rows, dtype=dtype)


@pytest.mark.parametrize("outside", ["plain", "lambda"])
@pytest.mark.parametrize("lam", [0.0, 0.7])
@pytest.mark.parametrize("name", BASES)
def test_equals_the_definition(name: str, lam: float, outside: str) -> None:
    logits, labels, quality = sample(name)
    base, weighted = BASES[name], name == "varifocal"
    loss = MatchedExpertLoss(GROUP, C, overall_weight=lam, outside=outside)
    each = base(logits, labels, quality)
    found = each.sum() / 7 + loss(matched(logits, labels, quality, base, 7.0, weighted))
    wanted = literal(each, logits, labels, quality, lam, outside, weighted) / 7
    assert found.item() == pytest.approx(wanted, rel=1e-12)


def test_value_by_hand() -> None:
    # logits 0: binary cross-entropy of six classes is 6 log 2, cross-entropy within the group of three log 3
    logits, labels, ones = torch.zeros(3, C), torch.tensor([0, 1, NO_OBJECT]), torch.ones(3)
    change = MatchedExpertLoss(GROUP, C, overall_weight=0.7)(matched(logits, labels, ones, binary, 2.0, False))
    assert change.item() == pytest.approx(0.3 * (math.log(3) - 6 * math.log(2)) / 2)


def test_softmax_is_the_probability_among_sigmoids_of_which_one_is_true() -> None:
    p = torch.rand(len(GROUP), dtype=torch.float64)
    alone = [
        math.prod(p[j].item() if j == k else 1 - p[j].item() for j in range(len(GROUP))) for k in range(len(GROUP))
    ]
    wanted = torch.tensor(alone, dtype=torch.float64) / sum(alone)
    assert torch.allclose(p.logit().softmax(0), wanted)


@pytest.mark.parametrize(("group", "lam"), [(GROUP, 1.0), ((), 0.5)])
def test_nothing_changes_at_weight_one_or_without_a_group(group: tuple[int, ...], lam: float) -> None:
    logits, labels, quality = sample("focal")
    matches = matched(logits, labels, quality, focal, 1.0, False)
    assert MatchedExpertLoss(group, C, overall_weight=lam)(matches) is None


def test_nothing_changes_where_no_object_is_of_the_group() -> None:
    logits, _, quality = sample("focal", 4)
    loss = MatchedExpertLoss(GROUP, C)
    for of in ([1, 3, 4, NO_OBJECT], [NO_OBJECT] * 4):
        assert loss(matched(logits, torch.tensor(of), quality, focal, 1.0, False)) is None


@pytest.mark.parametrize("name", BASES)
def test_gradcheck(name: str) -> None:
    logits, labels, quality = sample(name, 6)
    labels[:3] = torch.tensor([0, 5, 1])
    loss, base = MatchedExpertLoss(GROUP, C, overall_weight=0.3, outside="lambda"), BASES[name]
    if name == "varifocal":  # its weight is detached
        base = binary
    quality = quality.clamp(0.2, 0.8)
    assert torch.autograd.gradcheck(
        lambda o: loss(matched(o, labels, quality, base, 3.0, name == "varifocal")), logits.requires_grad_()
    )


@pytest.mark.parametrize("name", BASES)
def test_finite_at_large_logits(name: str) -> None:
    logits, labels, quality = sample(name, dtype=torch.float32)
    logits = (logits.sign() * 100).requires_grad_()
    change = MatchedExpertLoss(GROUP, C)(matched(logits, labels, quality, BASES[name], 3.0, True))
    change.backward()
    assert change.isfinite() and logits.grad.isfinite().all()


def test_half_precision() -> None:
    logits, labels, quality = sample("focal", dtype=torch.float32)
    loss = MatchedExpertLoss(GROUP, C)
    half = loss(matched(logits.half(), labels, quality, focal, 1.0, False))
    assert half.dtype == torch.float32
    assert torch.allclose(half, loss(matched(logits.half().float(), labels, quality, focal, 1.0, False)))


@pytest.mark.parametrize("arguments", [{"overall_weight": 1.1}, {"group": (0, C)}, {"group": (1, 1)}])
def test_refusals(arguments: dict) -> None:
    with pytest.raises(ConfigError):
        MatchedExpertLoss(**{"group": (0, 1), "num_classes": C, **arguments})
