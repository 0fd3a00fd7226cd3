import math

import numpy as np
import pytest

from longtail.metrics.pooled import average_precision, calibration, pooled_ap


def record(category: int, scores: list, matched: list, ignored: list | None = None, truths: int = 1) -> dict:
    return {
        "category_id": category,
        "dtScores": scores,
        "dtMatched": [matched] * 2,
        "dtIgnore": [ignored or [False] * len(scores)] * 2,
        "gtIgnore": [False] * truths,
    }


def test_average_precision_by_hand() -> None:
    # right, wrong, right of two: precision 1 up to recall 1/2 (51 points), 2/3 up to 1 (50 points)
    assert average_precision(np.array([True, False, True]), 2) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert average_precision(np.array([True]), 2) == pytest.approx(51 / 101)
    assert average_precision(np.zeros(0, bool), 2) == 0.0


def test_pooling_asks_for_scores_that_compare() -> None:
    # each class alone is perfect; together, the wrong one of class 2 outranks the right one of class 1
    records = [record(1, [0.2], [True]), None, record(2, [0.9, 0.5], [True, False])]
    assert pooled_ap(records) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert pooled_ap([record(1, [0.6], [True]), record(2, [0.9, 0.5], [True, False])]) == pytest.approx(1.0)
    ignored = [record(1, [0.2], [True]), record(2, [0.9, 0.5], [True, False], [False, True])]
    assert pooled_ap(ignored) == pytest.approx(1.0)
    assert math.isnan(pooled_ap([])) and pooled_ap([record(1, [], [])]) == 0.0


def test_calibration_by_hand() -> None:
    records = [record(7, [0.95, 0.91, 0.05], [True, False, False]), record(8, [1.0], [True]), None]
    curves = calibration(records, {7: 0, 8: 1}, ["rare", "frequent"])
    assert curves["rare"]["count"] == [1, *[0] * 8, 2]
    assert curves["rare"]["precision"][-1] == 0.5 and curves["rare"]["score"][-1] == pytest.approx(0.93)
    assert curves["frequent"]["precision"][-1] == 1.0 and curves["rare"]["precision"][4] is None
