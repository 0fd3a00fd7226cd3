import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.errors import ConfigError
from longtail.frequency import ClassFrequency
from longtail.frequency.imbalance import (
    effective_number,
    entropy,
    gini,
    imbalance_factor,
    imbalance_summary,
    normalised_entropy,
)


def test_imbalance_factor():
    assert imbalance_factor([100, 10, 4]) == 25
    assert imbalance_factor([100, 0, 4]) == 25
    assert imbalance_factor([7]) == 1
    assert math.isnan(imbalance_factor([0, 0]))


def test_gini_by_hand():
    assert gini([3, 3, 3]) == 0
    assert gini([0, 0, 0, 8]) == 0.75
    # 1, 2, 3: ((-2)*1 + 0*2 + 2*3) / (3*6)
    assert gini([2, 3, 1]) == pytest.approx(4 / 18)
    assert math.isnan(gini([0, 0]))


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=12).filter(any))
def test_gini_is_the_mean_absolute_difference(counts):
    slow = sum(abs(a - b) for a in counts for b in counts) / (2 * len(counts) * sum(counts))
    assert gini(counts) == pytest.approx(slow, abs=1e-12)


def test_effective_number_by_hand_and_limits():
    assert effective_number([0, 1, 2, 3], 0.5).tolist() == [0, 1, 1.5, 1.75]
    assert effective_number([0, 1, 500], 0).tolist() == [0, 1, 1]
    assert effective_number([0, 1, 500], 1).tolist() == [0, 1, 500]
    assert effective_number([10**9], 0.999).item() == pytest.approx(1000)


def test_effective_number_stays_exact_near_one():
    # (1 - b^n)/(1 - b) = sum of b^i: with b = 1 - 1e-12 it is n to twelve digits.
    assert effective_number([1000], 1 - 1e-12).item() == pytest.approx(1000, rel=1e-4)
    assert np.isfinite(effective_number([10**15], 0.9999)).all()


@pytest.mark.parametrize("beta", [-0.1, 1.1, math.nan])
def test_beta_outside_its_range_is_refused(beta):
    with pytest.raises(ConfigError, match="beta"):
        effective_number([1], beta)


def test_entropy_by_hand():
    assert entropy([5, 5]) == pytest.approx(math.log(2))
    assert entropy([9, 0, 0]) == 0
    assert entropy([1, 1, 2]) == pytest.approx(1.5 * math.log(2))
    assert normalised_entropy([2, 2, 2]) == pytest.approx(1)
    assert normalised_entropy([1, 1, 2, 0]) == pytest.approx(0.75)
    assert math.isnan(normalised_entropy([4])) and math.isnan(entropy([0]))


@pytest.mark.parametrize("counts", [[1, -1], [math.nan], [[1, 2]]])
def test_what_is_no_list_of_counts_is_refused(counts):
    with pytest.raises(ConfigError, match="counts"):
        gini(np.array(counts))


def test_summary():
    frequency = ClassFrequency(("a", "b", "c", "d"), np.array([4, 4, 4, 0]), np.array([60, 2, 30, 0]))
    summary = imbalance_summary(frequency)
    assert (summary.largest, summary.smallest, summary.num_absent, summary.factor) == ("a", "b", 1, 30)
    assert summary.gini == gini([60, 2, 30, 0]) and summary.to_dict()["unit"] == "pixels"
    assert imbalance_summary(frequency, "images").factor == 1
    with pytest.raises(ConfigError, match="instances"):
        imbalance_summary(frequency, "instances")
