"""The nested chain: chain rule over nested label sets."""

import math

import pytest
import torch

from longtail.ensembles.nested_chain import NestedChain
from longtail.errors import ConfigError
from longtail.medoe.experts import LabelSets
from longtail.models.segmentation_methods import build_method
from support.tiny_segmentation import FREQUENCY, GROUPS, batch, tiny_model

#: Classes 0 and 3 are head, 1 and 5 body, 2 and 4 tail.
GROUP_OF = [0, 1, 2, 0, 2, 1]
SETS = torch.tensor([[group >= expert for group in GROUP_OF] for expert in range(3)])
SHARE = torch.tensor([0.5, 0.08, 0.01, 0.38, 0.005, 0.025])


def slow_chain(logits, tau):
    """Plain Python, one position, probabilities and not logarithms: (experts, classes) numbers."""
    remaining, result = 1.0, [0.0] * len(GROUP_OF)
    for expert, own in enumerate(logits):
        known = [c for c, group in enumerate(GROUP_OF) if group >= expert]
        total = sum(math.exp(own[c]) for c in known)
        within = {c: math.exp(own[c]) / total for c in known}
        group = [c for c in known if GROUP_OF[c] == expert]
        rarer = [c for c in known if GROUP_OF[c] > expert]
        a, b = sum(within[c] for c in group), sum(within[c] for c in rarer)
        q = 1.0
        if rarer:
            pi, rho = float(SHARE[group].sum()), float(SHARE[rarer].sum())
            pi, rho = pi / (pi + rho), rho / (pi + rho)
            q = (a / pi**tau) / (a / pi**tau + b / rho**tau)
        for c in group:
            result[c] = remaining * q * within[c] / a
        remaining *= 1 - q
    return result


def test_by_hand():
    # Two experts: {0, 1} against {1}. Expert 1 says 0.8 : 0.2; expert 2 knows class 1 alone.
    sets = torch.tensor([[True, True], [False, True]])
    logits = torch.tensor([[[0.8, 0.2]], [[0.9, 0.1]]]).log()
    torch.testing.assert_close(NestedChain(sets, torch.tensor([0.9, 0.1]))(logits)[0], torch.tensor([0.8, 0.2]))
    # At tau = 1 the odds 4 are divided by the prior odds 9.
    odds = 4 / 9
    expected = torch.tensor([odds / (1 + odds), 1 / (1 + odds)])
    torch.testing.assert_close(NestedChain(sets, torch.tensor([0.9, 0.1]), tau=1.0)(logits)[0], expected)


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("grid", [(), (2, 3)])
def test_equals_a_slow_reference(tau, grid):
    logits = torch.randn(3, 4, 6, *grid, dtype=torch.float64) * 3
    found = NestedChain(SETS, SHARE, tau)(logits).movedim(1, -1).reshape(-1, 6)
    positions = logits.movedim(2, -1).reshape(3, -1, 6)
    expected = [slow_chain(positions[:, i].tolist(), tau) for i in range(positions.shape[1])]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-9)


def test_one_expert_is_that_expert():
    logits = torch.randn(1, 2, 6, 3, 3)
    chain = NestedChain(torch.ones(1, 6, dtype=torch.bool), SHARE, tau=0.7)
    torch.testing.assert_close(chain(logits), logits[0].softmax(dim=1))


def test_experts_that_agree_are_expert_one_at_tau_zero():
    first = torch.randn(2, 6, 3, 3)
    # Within its set each expert is expert 1, up to a constant; outside of it, anything.
    logits = torch.stack([first + 2.5 * k for k in range(3)])
    outside = ~SETS.view(3, 1, 6, 1, 1).expand_as(logits)
    logits = torch.where(outside, 50 * torch.randn_like(logits), logits)
    torch.testing.assert_close(NestedChain(SETS, SHARE)(logits), first.softmax(dim=1))
    assert not torch.allclose(NestedChain(SETS, SHARE, tau=0.3)(logits), first.softmax(dim=1), atol=1e-2)


def test_tau_moves_mass_between_groups_and_not_within():
    logits = torch.randn(3, 5, 6)
    plain, shifted = NestedChain(SETS, SHARE)(logits), NestedChain(SETS, SHARE, tau=0.5)(logits)
    for group in ([0, 3], [1, 5], [2, 4]):
        inside = [p[:, group] / p[:, group].sum(dim=1, keepdim=True) for p in (plain, shifted)]
        torch.testing.assert_close(*inside)
    assert (shifted[:, [0, 3]].sum(dim=1) < plain[:, [0, 3]].sum(dim=1)).all()


@pytest.mark.parametrize("scale", [100.0, 1e4])
def test_extreme_logits_are_finite_and_sum_to_one(scale):
    logits = scale * torch.randn(3, 4, 6).sign()
    found = NestedChain(SETS, SHARE, tau=0.5)(logits.requires_grad_())
    torch.testing.assert_close(found.sum(dim=1), torch.ones(4))
    found.square().sum().backward()
    assert logits.grad.isfinite().all()
    assert NestedChain(SETS, SHARE)(logits.detach().half()).dtype == torch.float32


def test_gradient():
    logits = torch.randn(3, 2, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(NestedChain(SETS, SHARE, tau=0.4).double(), (logits,))


@pytest.mark.parametrize(
    "sets",
    [
        LabelSets.from_groups(GROUPS, "fully_disjoint"),
        LabelSets.from_groups(GROUPS, "disjoint_tail"),
        LabelSets.explicit([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]], 5),
        LabelSets.explicit([[2, 4], [0, 1, 2, 3, 4]], 5),
    ],
    ids=["fully_disjoint", "disjoint_tail", "equal", "ascending"],
)
def test_label_sets_that_are_not_nested_are_refused(sets):
    with pytest.raises(ConfigError, match="not nested"):
        NestedChain(sets.masks, torch.ones(5) / 5)


@pytest.mark.parametrize("tau", [-0.1, math.nan, math.inf])
def test_bad_tau_is_refused(tau):
    with pytest.raises(ConfigError, match="tau is"):
        NestedChain(SETS, SHARE, tau)


def test_a_group_without_pixels_has_no_prior_to_take_out():
    share = torch.tensor([0.5, 0.1, 0.0, 0.4, 0.0, 0.0])
    assert NestedChain(SETS, share)(torch.randn(3, 1, 6)).isfinite().all()
    with pytest.raises(ConfigError, match="expert 3 have no training pixels"):
        NestedChain(SETS, share, tau=0.1)


def test_another_number_of_experts_is_refused():
    with pytest.raises(ConfigError, match="3 label sets for 2 experts"):
        NestedChain(SETS, SHARE)(torch.randn(2, 1, 6))


def test_reads_the_experts_of_a_medoe_model_after_upsampling():
    specs = {"chain": "nested_chain", "chain_0.3": {"name": "nested_chain", "tau": 0.3}}
    comparisons = {key.replace(".", "_"): spec for key, spec in specs.items()}
    method = build_method(
        "medoe", tiny_model(), frequency=FREQUENCY, groups=GROUPS, ensemble="nested_chain", comparisons=comparisons
    ).eval()
    assert method.phases == ("experts",)  # there is nothing to fit
    image, target = batch(size=18)
    with torch.no_grad():
        maps = method.expert_maps(image)
        sets = LabelSets.from_groups(GROUPS)
        share = torch.from_numpy(FREQUENCY.share("pixels")).float()
        for name, tau in (("medoe", 0.0), ("chain", 0.0), ("chain_0_3", 0.3)):
            whole = NestedChain(sets.masks, share, tau)(maps.logits)
            assert torch.equal(method.readouts()[name](maps, target), whole.argmax(dim=1))
        assert torch.equal(method.labels(image), method(image).argmax(dim=1))
