"""Average, sparse and dynamic ensembles of stages: SPEC's invariants 21 to 23."""

import math

import pytest
import torch
from torch import Tensor

from longtail.ensembles.alignment import align_groups
from longtail.ensembles.average import Average
from longtail.ensembles.base import Ensemble
from longtail.ensembles.dynamic import DynamicEnsemble
from longtail.ensembles.sparse import SparseEnsemble
from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups

GROUPS = CategoryGroups(("rare", "common", "frequent"), ((0, 3, 6), (1, 2), (4, 5)))
BACKGROUNDS = ("exclude", "relative", "last_group", "singleton", "exempt")


def logits(stages: int = 3, rows: int = 16, size: float = 3.0) -> Tensor:
    return torch.randn(stages, rows, 8, dtype=torch.float64) * size


def every_ensemble(align: bool, background: str = "exclude") -> list[Ensemble]:
    return [
        Average("probabilities", align=align, groups=GROUPS, background=background),
        Average("logits", align=align, groups=GROUPS, background=background),
        SparseEnsemble(GROUPS, align=align, background=background),
        DynamicEnsemble(GROUPS, align=align, background=background),
        DynamicEnsemble(GROUPS, align=align, background=background, temperature=0.3, lse_scaled=True),
        DynamicEnsemble(GROUPS, align=align, background=background, weigh_by="raw"),
    ]


def slow_dynamic(o: Tensor, temperature: float, background: str) -> list[list[float]]:
    """Eq. 3, 5, 6 with plain loops: (stages, rows, 8) -> probabilities."""
    rows = []
    for r in range(o.shape[1]):
        stages = [align_groups(o[k, r : r + 1], GROUPS, background)[0].tolist() for k in range(len(o))]
        combined = [0.0] * 8
        for members in GROUPS.members:
            inside = [*members, 7] if background == "last_group" and 5 in members else members
            sums = [sum(math.exp(stage[i] / temperature) for i in inside) for stage in stages]
            for i in inside:
                combined[i] = sum(s / sum(sums) * stage[i] for s, stage in zip(sums, stages, strict=True))
        if background != "last_group":
            combined[7] = sum(stage[7] for stage in stages) / len(stages)
        scores = [math.exp(v) for v in combined]
        rows.append([s / sum(scores) for s in scores])
    return rows


@pytest.mark.parametrize("background", ["exclude", "relative", "last_group"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_dynamic_equals_the_slow_reference(temperature: float, background: str) -> None:
    o = logits(rows=6, size=1.5)
    fast = DynamicEnsemble(GROUPS, temperature=temperature, background=background)(o)
    assert torch.allclose(fast, torch.tensor(slow_dynamic(o, temperature, background), dtype=o.dtype), atol=1e-13)


def test_dynamic_by_hand() -> None:
    groups = CategoryGroups(("a", "b"), ((0,), (1,)))
    # one class a group: without alignment the weights of a class are the softmax of its logit over the stages
    o = torch.tensor([[[0.0, 1.0, 2.0]], [[math.log(3), 1.0, 4.0]]], dtype=torch.float64)
    ensemble = DynamicEnsemble(groups, align=False)
    assert [w.flatten().tolist() for w in ensemble.stage_weights(o)] == [
        pytest.approx([0.25, 0.75]),
        pytest.approx([0.5, 0.5]),
    ]
    expected = torch.tensor([[0.75 * math.log(3), 1.0, 3.0]], dtype=torch.float64).softmax(1)
    assert torch.allclose(ensemble(o), expected)


def test_sparse_by_hand() -> None:
    o = torch.arange(24, dtype=torch.float64).reshape(3, 1, 8)
    combined = torch.tensor([[0.0, 9.0, 10.0, 3.0, 20.0, 21.0, 6.0, 15.0]], dtype=torch.float64)
    assert torch.allclose(SparseEnsemble(GROUPS, align=False)(o), combined.softmax(1))
    last = torch.tensor([[0.0, 9.0, 10.0, 3.0, 20.0, 21.0, 6.0, 23.0]], dtype=torch.float64)
    assert torch.allclose(SparseEnsemble(GROUPS, align=False, background="last_group")(o), last.softmax(1))


def test_average_by_hand() -> None:
    o = logits()
    assert torch.allclose(Average()(o), o.softmax(2).mean(0))
    assert torch.allclose(Average("logits")(o), o.mean(0).softmax(1))
    aligned = torch.stack([align_groups(stage, GROUPS) for stage in o])
    assert torch.allclose(Average(align=True, groups=GROUPS)(o), aligned.softmax(2).mean(0))
    assert torch.allclose(Average("logits", align=True, groups=GROUPS)(o), aligned.mean(0).softmax(1))


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("size", [1.0, 100.0, 1e4])
def test_rows_sum_to_one_and_nothing_overflows(align: bool, background: str, size: float) -> None:
    for ensemble in every_ensemble(align, background):
        probabilities = ensemble(logits(size=size))
        assert (probabilities >= 0).all()
        assert torch.allclose(probabilities.sum(1), torch.ones(16, dtype=torch.float64)), ensemble


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_identical_stages_without_alignment_are_the_stage(background: str) -> None:
    o = logits(1).expand(3, -1, -1)
    for ensemble in every_ensemble(False, background):
        assert torch.allclose(ensemble(o), o[0].softmax(1), atol=1e-14), ensemble


def test_one_stage_is_the_plain_detector() -> None:
    o = logits(1)
    everyone = CategoryGroups(("all",), (tuple(range(7)),))
    for ensemble in (Average(), SparseEnsemble(everyone, align=False), DynamicEnsemble(GROUPS, align=False)):
        assert torch.allclose(ensemble(o), o[0].softmax(1), atol=1e-14)


def test_identical_aligned_stages_are_the_aligned_stage() -> None:
    o = logits(1)
    expected = align_groups(o[0], GROUPS, "exclude").softmax(1)
    for ensemble in every_ensemble(True, "exclude"):
        assert torch.allclose(ensemble(o.expand(3, -1, -1)), expected, atol=1e-14)


@pytest.mark.parametrize("align", [False, True])
def test_dynamic_limits_of_the_temperature(align: bool) -> None:
    o = logits()
    hot = DynamicEnsemble(GROUPS, temperature=1e9, align=align)(o)
    assert torch.allclose(hot, Average("logits", align=align, groups=GROUPS)(o), atol=1e-7)
    cold = DynamicEnsemble(GROUPS, temperature=1e-4, align=align).stage_weights(o)
    source = torch.stack([align_groups(stage, GROUPS) for stage in o]) if align else o
    for weights, members in zip(cold, GROUPS.members, strict=True):
        best = source[:, :, list(members)].amax(2).argmax(0)
        assert torch.equal(weights.argmax(0), best) and weights.amax(0).min() > 0.99


def test_dynamic_weights() -> None:
    o = logits(4)
    ensemble = DynamicEnsemble(GROUPS, temperature=0.7)
    weights = ensemble.stage_weights(o)
    for w in weights:
        assert w.shape == (4, 16) and (w >= 0).all() and torch.allclose(w.sum(0), torch.ones(16, dtype=o.dtype))
    order = [2, 0, 3, 1]
    for w, permuted in zip(weights, ensemble.stage_weights(o[order]), strict=True):
        assert torch.allclose(permuted, w[order])
    assert torch.allclose(ensemble(o[order]), ensemble(o))
    scaled = DynamicEnsemble(GROUPS, temperature=0.7 * 5).stage_weights(o * 5)
    for w, s in zip(weights, scaled, strict=True):
        assert torch.allclose(w, s)


def test_scaled_lse_tends_to_maxima_and_means() -> None:
    o = logits()
    cold = DynamicEnsemble(GROUPS, temperature=1e-6, lse_scaled=True, align=False).stage_weights(o)
    hot = DynamicEnsemble(GROUPS, temperature=1e7, lse_scaled=True, align=False).stage_weights(o)
    for members, low, high in zip(GROUPS.members, cold, hot, strict=True):
        part = o[:, :, list(members)]
        assert torch.allclose(low, part.amax(2).softmax(0), atol=1e-5)
        assert torch.allclose(high, part.mean(2).softmax(0), atol=1e-5)
    plain, scaled = (DynamicEnsemble(GROUPS, lse_scaled=flag)(o) for flag in (False, True))
    assert torch.equal(plain, scaled)


def test_invariance_to_a_constant_of_one_stage() -> None:
    o, shifted = logits(), None
    shifted = o.clone()
    shifted[1] += 7.0
    # exclude: the foreground's competition stays, the background's does not
    foreground = [DynamicEnsemble(GROUPS, background="exclude")(x)[:, :7] for x in (o, shifted)]
    normalised = [f / f.sum(1, keepdim=True) for f in foreground]
    assert torch.allclose(*normalised, atol=1e-12)
    assert not torch.allclose(*foreground)
    assert torch.allclose(*(DynamicEnsemble(GROUPS)(x) for x in (o, shifted)), atol=1e-12)


def test_exempt_keeps_the_plain_background() -> None:
    o = logits()
    background = o.softmax(2).mean(0)[:, 7]
    for ensemble in every_ensemble(True, "exempt"):
        assert torch.allclose(ensemble(o)[:, 7], background)


def test_group_constants_vanish_with_alignment() -> None:
    o = logits()
    shifted = o.clone()
    shifted[0][:, [1, 2]] += 5.0
    for ensemble in every_ensemble(True)[:-1]:
        assert torch.allclose(ensemble(o), ensemble(shifted), atol=1e-12)


def test_an_activation_reads_further_logits() -> None:
    def objectness(o: Tensor) -> Tensor:
        fg = o[:, 7:].softmax(1)[:, :1]
        return torch.cat([o[:, :7].softmax(1) * fg, 1 - fg], 1)

    o = torch.randn(3, 5, 9)
    for ensemble in (
        DynamicEnsemble(GROUPS, activation=objectness),
        SparseEnsemble(GROUPS, activation=objectness),
        Average(align=True, groups=GROUPS, activation=objectness),
        Average(activation=objectness),
    ):
        p = ensemble(o)
        assert p.shape == (5, 8) and torch.allclose(p.sum(1), torch.ones(5))
    with pytest.raises(ConfigError, match="exempt"):
        DynamicEnsemble(GROUPS, background="exempt", activation=lambda x: x.softmax(1))(o[:, :, :8])


def test_pixels_empty_groups_and_no_rows() -> None:
    groups = CategoryGroups(("none", "some", "rest"), ((), (1, 2), (0, 3)))
    for align in (False, True):
        for ensemble in (
            DynamicEnsemble(groups, align=align),
            SparseEnsemble(groups, align=align),
            Average(align=align, groups=groups),
        ):
            pixels = torch.randn(3, 2, 5, 4, 4)
            p = ensemble(pixels)
            rows = ensemble(pixels.permute(0, 1, 3, 4, 2).reshape(3, 32, 5))
            assert torch.allclose(p.permute(0, 2, 3, 1).reshape(32, 5), rows, atol=1e-6)
            assert ensemble(torch.zeros(3, 0, 5)).shape == (0, 5)
    assert DynamicEnsemble(groups).stage_weights(torch.randn(3, 2, 5))[0].tolist() == [[pytest.approx(1 / 3)] * 2] * 3


def test_no_state_to_save() -> None:
    for ensemble in every_ensemble(True):
        assert not ensemble.state_dict() and not list(ensemble.parameters())


def test_gradients_flow() -> None:
    o = logits(rows=2).requires_grad_()
    assert torch.autograd.gradcheck(DynamicEnsemble(GROUPS), o)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="3 experts for 4 stages"):
        SparseEnsemble(GROUPS)(logits(4))
    with pytest.raises(ConfigError, match="tau"):
        DynamicEnsemble(GROUPS, temperature=0.0)
    with pytest.raises(ConfigError, match="needs groups"):
        Average(align=True)


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_half_precision_logits(background: str) -> None:
    o = logits().half()
    for ensemble in every_ensemble(True, background):
        assert torch.allclose(ensemble(o), ensemble(o.float()), atol=1e-6)


@pytest.mark.parametrize("background", ["exclude", "relative"])
def test_kept_level(background: str) -> None:
    """Alignment with the level kept: the paper's, then all stages moved by the mean of what they lost."""
    o = logits()
    options = {"background": background, "keep_level": True, "activation": torch.sigmoid}
    ensembles = [
        Average("logits", align=True, groups=GROUPS, **options),
        SparseEnsemble(GROUPS, **options),
        DynamicEnsemble(GROUPS, temperature=0.5, **options),
    ]
    for ensemble in ensembles:
        # stages that agree need no alignment
        torch.testing.assert_close(ensemble(o[:1].expand(3, -1, -1)), o[0].sigmoid())
        # a group that one stage speaks louder for is no louder than its mean over the stages
        moved = o.clone()
        moved[1][:, list(GROUPS.members[0])] += 6
        found = ensemble(moved).logit() - ensemble(o).logit()
        torch.testing.assert_close(found[:, list(GROUPS.members[0])], torch.full((16, 3), 2.0, dtype=o.dtype))
        assert found[:, [1, 2, 4, 5]].abs().max() < 1e-9
