import math

import numpy as np
import pytest

from longtail.reproduce.significance import holm, paired_difference, t_tail


def integrated_tail(t: float, freedom: int) -> float:
    """Twice the area of Student's density beyond t, on a grid."""
    x = np.linspace(0, t, 200_001)
    density = (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    factor = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    return 1 - 2 * factor * float(np.trapezoid(density, x))


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 9, 30])
@pytest.mark.parametrize("t", [0.1, 1.0, 2.5, 6.0])
def test_tail_is_the_integral_of_the_density(t, freedom):
    assert t_tail(t, freedom) == pytest.approx(integrated_tail(t, freedom), abs=1e-7)


def test_tail_by_hand():
    # two degrees: P(|T| > t) = 1 - t / sqrt(2 + t^2); one degree: 1 - 2 atan(t) / pi; the usual table: 4.303 at 5 %
    assert t_tail(3.0, 2) == pytest.approx(1 - 3 / math.sqrt(11))
    assert t_tail(1.0, 1) == pytest.approx(0.5)
    assert t_tail(4.3027, 2) == pytest.approx(0.05, abs=1e-5)
    assert t_tail(0.0, 7) == pytest.approx(1.0)


def test_pairs_by_hand():
    # differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt 3 with two degrees
    found = paired_difference([10, 20, 30], [11, 22, 33])
    assert (found.mean, found.pairs) == (2.0, 3)
    assert found.p == pytest.approx(1 - 2 * math.sqrt(3) / math.sqrt(14))


def test_the_seeds_own_effect_is_taken_out():
    assert paired_difference([10.0, 50.0, 90.0], [11.0, 51.1, 90.9]).p < 0.01


def test_few_or_equal_seeds():
    assert paired_difference([1.0], [2.0]).p is None
    assert paired_difference([1.0, 2.0], [1.0, 2.0]).p == 1.0
    assert paired_difference([1.0, 2.0], [2.0, 3.0]).p == 0.0
    assert math.isnan(paired_difference([], []).mean)


def test_holm_by_hand():
    # 0.01 x 4, 0.02 x 3, 0.03 x 2 (not below the one before it), 0.5 x 1
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([None, 0.04, None, 0.9]) == [None, pytest.approx(0.08), None, pytest.approx(0.9)]
    assert holm([0.7]) == [0.7] and holm([]) == []
    assert holm([0.9, 0.8, 0.7]) == [1.0, 1.0, 1.0]
