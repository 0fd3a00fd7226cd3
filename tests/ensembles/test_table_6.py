"""The user-specified ensembles of MEDOE's Table 6, and the plain average."""

import pytest
import torch

from longtail.ensembles.argmax import MostConfident, select_expert
from longtail.ensembles.average import Average
from longtail.ensembles.group_average import GroupAverage
from longtail.ensembles.softmax_threshold import SoftmaxThreshold
from longtail.errors import ConfigError

NESTED = torch.tensor([[True, True, True], [False, True, True], [False, False, True]])
OWN = torch.eye(3, dtype=torch.bool)
ALL = [
    Average(),
    Average("logits"),
    GroupAverage(NESTED),
    GroupAverage(NESTED, "probabilities"),
    MostConfident(),
    SoftmaxThreshold(OWN),
    SoftmaxThreshold(OWN, order="tail_first"),
    SoftmaxThreshold(OWN, order="head_first"),
]


def from_probabilities(*rows):
    """(K, 1, C) logits of the given probabilities."""
    return torch.tensor(rows).log().unsqueeze(1)


@pytest.mark.parametrize("ensemble", ALL, ids=repr)
@pytest.mark.parametrize("grid", [(), (4, 5)])
def test_contract(ensemble, grid):
    z = torch.randn(3, 2, 3, *grid) * 4
    result = ensemble(z)
    assert result.shape == (2, 3, *grid)
    torch.testing.assert_close(result.sum(dim=1), torch.ones(2, *grid))
    same = z[:1].expand(3, *z.shape[1:])
    torch.testing.assert_close(ensemble(same), z[0].softmax(dim=1), atol=1e-6, rtol=1e-5)
    assert torch.isfinite(ensemble(z.sign() * 100)).all()


def test_mean_by_hand():
    z = from_probabilities([0.8, 0.1, 0.1], [0.2, 0.7, 0.1])
    torch.testing.assert_close(Average()(z)[0], torch.tensor([0.5, 0.4, 0.1]))
    geometric = torch.tensor([0.8 * 0.2, 0.1 * 0.7, 0.01]).sqrt()
    torch.testing.assert_close(Average("logits")(z)[0], geometric / geometric.sum())


def test_group_average_by_hand():
    z = torch.tensor([[[1.0, 2.0, 3.0]], [[9.0, 4.0, 5.0]], [[9.0, 9.0, 10.0]]])
    expected = torch.tensor([1.0, (2 + 4) / 2, (3 + 5 + 10) / 3]).softmax(dim=0)
    torch.testing.assert_close(GroupAverage(NESTED)(z)[0], expected)
    with pytest.raises(ConfigError, match=r"\[0\]"):
        GroupAverage(NESTED[1:])


def test_class_seen_by_one_expert_keeps_its_logit():
    z = torch.randn(3, 1, 3)
    ratio = GroupAverage(NESTED)(z).log()[0]
    average = torch.stack([z[0, 0, 0], z[:2, 0, 1].mean(), z[:, 0, 2].mean()])
    torch.testing.assert_close(ratio - ratio[0], average - average[0])
    assert average[0] == z[0, 0, 0]


def test_most_confident_by_hand():
    z = from_probabilities([0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.4, 0.4, 0.2])
    torch.testing.assert_close(MostConfident()(z)[0], torch.tensor([0.1, 0.3, 0.6]))


def test_softmax_threshold_order_and_fallback():
    # Expert 1 is sure of its head class; expert 3 is less sure, but above the threshold, of its tail class.
    z = from_probabilities([0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.3, 0.3, 0.4])
    assert SoftmaxThreshold(OWN, order="tail_first")(z).argmax().item() == 2
    assert SoftmaxThreshold(OWN, order="head_first")(z).argmax().item() == 0
    assert SoftmaxThreshold(OWN, threshold=0.5, order="tail_first")(z).argmax().item() == 0
    # An expert that is sure of somebody else's class does not claim the pixel.
    z = from_probabilities([0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0.8, 0.1, 0.1])
    assert SoftmaxThreshold(OWN)(z).argmax().item() == 1


def test_the_surest_claim_counts_by_default():
    # All three claim; expert 2 is the surest of its own class.
    z = from_probabilities([0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4])
    torch.testing.assert_close(SoftmaxThreshold(OWN)(z)[0], torch.tensor([0.1, 0.8, 0.1]))
    assert SoftmaxThreshold(OWN, order="tail_first")(z).argmax().item() == 2
    # Expert 2 is surer, but of somebody else's class: it claims nothing.
    z = from_probabilities([0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0.3, 0.3, 0.4])
    assert SoftmaxThreshold(OWN)(z).argmax().item() == 2
    # Nobody is sure enough of its own: expert 1, although it is the least sure.
    z = from_probabilities([0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0.1, 0.6, 0.3])
    torch.testing.assert_close(SoftmaxThreshold(OWN, threshold=0.4)(z)[0], torch.tensor([0.2, 0.5, 0.3]))


@pytest.mark.parametrize("order", ["surest", "tail_first", "head_first"])
def test_threshold_of_one_is_expert_one(order):
    z = torch.randn(3, 4, 3, 2, 2)
    torch.testing.assert_close(SoftmaxThreshold(OWN, threshold=1.0, order=order)(z), z[0].softmax(dim=1))


def test_select_expert():
    values = torch.arange(12.0).view(3, 2, 2)
    assert select_expert(values, torch.tensor([2, 0])).tolist() == [[8.0, 9.0], [2.0, 3.0]]
