import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.errors import ConfigError
from longtail.frequency import ClassFrequency
from longtail.frequency.imbalance import (
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
