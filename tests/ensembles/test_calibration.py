import math

import pytest
import torch

from longtail.ensembles.average import Average
from longtail.ensembles.calibration import (
    Calibrated,
    LogitNormalized,
    divide_probabilities,
    prior_divisors,
    size_divisors,
)
from longtail.errors import ConfigError

K, C = 3, 4


def test_values_by_hand():
    counts = torch.tensor([100.0, 4.0, 0.0])
    torch.testing.assert_close(size_divisors(counts, 0.5), torch.tensor([10.0, 2.0, 1.0]))
    torch.testing.assert_close(prior_divisors(counts), torch.tensor([100.0, 4.0, 1.0]) / 105)
    # p = (0.5, 0.3 | background 0.2), divided by (10, 2): (0.05, 0.15 | 0.2) of 0.4
    p = torch.tensor([[0.5, 0.3, 0.2]])
    torch.testing.assert_close(divide_probabilities(p, torch.tensor([10.0, 2.0])), torch.tensor([[0.125, 0.375, 0.5]]))
    # sigmoids: 0.05 / (0.05 + 0.5), 0.15 / (0.15 + 0.7); the background stays
    found = divide_probabilities(p, torch.tensor([10.0, 2.0]), independent=True)
    torch.testing.assert_close(found, torch.tensor([[1 / 11, 3 / 17, 0.2]]))


@pytest.mark.parametrize("grid", [(), (2, 3)])
def test_norcal_is_a_softmax_of_lowered_logits(grid):
    logits, counts = torch.randn(1, 5, C + 1, *grid, dtype=torch.float64), torch.tensor([900.0, 30.0, 2.0, 7.0])
    lowered = logits.clone()
    lowered[:, :, :C] -= 0.6 * counts.log().view(-1, *[1] * len(grid))
    found = Calibrated(Average(), size_divisors(counts))(logits)
    torch.testing.assert_close(found, Average()(lowered), rtol=1e-6, atol=1e-8)


def test_sigmoids_of_lowered_logits():
    logits, divisors = torch.randn(6, C), torch.tensor([3.0, 1.0, 20.0, 0.5])
    found = divide_probabilities(logits.sigmoid(), divisors, independent=True)
    torch.testing.assert_close(found, (logits - divisors.log()).sigmoid())


def test_power_zero_is_the_inner_ensemble_and_more_helps_the_rare():
    logits, counts = torch.randn(K, 5, C + 1), torch.tensor([900.0, 30.0, 2.0, 7.0])
    inner = Average()
    for divisors in (size_divisors(counts, 0.0), prior_divisors(counts, 0.0)):
        torch.testing.assert_close(Calibrated(inner, divisors)(logits), inner(logits))
    ratio = Calibrated(inner, size_divisors(counts))(logits) / inner(logits)
    assert (ratio[:, 2] > ratio[:, 3]).all() and (ratio[:, 3] > ratio[:, 1]).all() and (ratio[:, 1] > ratio[:, 0]).all()


def test_adjusting_undoes_a_prior():
    # a classifier that knows the prior only says the classes are alike once adjusted
    counts = torch.tensor([90.0, 9.0, 1.0])
    found = Calibrated(Average(), prior_divisors(counts))((counts / 100).log().view(1, 1, 3))
    torch.testing.assert_close(found, torch.full((1, 3), 1 / 3))


def test_normalized_by_hand():
    ensemble = LogitNormalized(Average(), 1, 2, eps=0.0)
    ensemble.observe(torch.tensor([[[1.0, 10.0, 7.0], [3.0, 30.0, 7.0]]]))  # means 2, 20; deviations 1, 10
    found = ensemble.normalized(torch.tensor([[[5.0, 50.0, -1.0]]]))
    torch.testing.assert_close(found, torch.tensor([[[5.0, 3.2, -1.0]]]))
    torch.testing.assert_close(
        ensemble(torch.tensor([[[5.0, 50.0, -1.0]]])), torch.tensor([[5.0, 3.2, -1.0]]).softmax(1)
    )


def test_statistics_in_parts_are_those_of_all():
    logits = 5 + 3 * torch.randn(K, 50, C + 1)
    ensemble = LogitNormalized(Average(), K, C)
    for part in logits.split([1, 0, 29, 20], dim=1):
        ensemble.observe(part)
    torch.testing.assert_close(ensemble.mean, logits[:, :, :C].mean(1))
    torch.testing.assert_close(ensemble.deviations / 50, logits[:, :, :C].var(1, correction=0))
    normal = ensemble.normalized(logits)[:, :, :C]
    torch.testing.assert_close(normal.std(1, correction=0), torch.ones(K, C), rtol=1e-4, atol=1e-4)
    resumed = LogitNormalized(Average(), K, C)
    resumed.load_state_dict(ensemble.state_dict())
    assert torch.equal(resumed(logits), ensemble(logits))


def test_normal_logits_stay():
    ensemble = LogitNormalized(Average(), K, C, eps=0.0)
    ensemble.deviations += 1
    ensemble.number += 1
    ensemble.mean += 0.7
    logits = torch.randn(K, 5, C + 1)
    torch.testing.assert_close(ensemble(logits), Average()(logits))


def test_refusals_and_extremes():
    with pytest.raises(ConfigError, match="not above 0"):
        Calibrated(Average(), torch.tensor([1.0, 0.0]))
    ensemble = LogitNormalized(Average(), 2, C)
    with pytest.raises(ConfigError, match="seen no logits"):
        ensemble(torch.zeros(2, 1, C))
    with pytest.raises(ConfigError, match="3 experts with 4 logits"):
        ensemble.observe(torch.zeros(3, 1, C))
    ensemble.observe(torch.full((2, 9, C), 4.0))  # no variance at all
    logits = 100 * torch.randn(2, 9, C + 1).sign()
    for found in (ensemble(logits), Calibrated(Average(), size_divisors(torch.full((C,), 1e6), 2.0))(logits)):
        assert found.isfinite().all() and math.isclose(found.sum().item(), 9, rel_tol=1e-5)
    half = Calibrated(Average(), torch.ones(C))(logits.half())
    assert half.dtype == torch.float32
