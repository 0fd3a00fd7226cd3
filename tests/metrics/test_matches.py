"""Scores read from matches, by hand."""

import math

import numpy as np
import pytest

from longtail.frequency.groups import CategoryGroups
from longtail.metrics.matches import THRESHOLDS, Matches, Overlaps, average_precision, match_greedily


def matches(right: list, scores: list, labels: list, positives: tuple = (1, 1), ignored: list | None = None) -> Matches:
    """Right or wrong at all thresholds alike."""
    flags = [np.array(v, dtype=np.uint16) * 1023 for v in (right, ignored or [0] * len(right))]
    return Matches(np.array(scores, float), np.array(labels, np.int32), *flags, np.array(positives))


def test_average_precision_by_hand() -> None:
    # right, wrong, right of two: precision 1 up to recall 1/2 (51 points), 2/3 up to 1 (50 points)
    assert average_precision(np.array([True, False, True]), 2) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert average_precision(np.array([True]), 2) == pytest.approx(51 / 101)
    assert average_precision(np.zeros(0, bool), 2) == 0.0


def test_pooling_asks_for_scores_that_compare() -> None:
    # each class alone is perfect; together, the wrong one of class 1 outranks the right one of class 0
    found = matches([1, 1, 0], [0.2, 0.9, 0.5], [0, 1, 1])
    assert found.pooled_ap() == pytest.approx((51 + 50 * 2 / 3) / 101)
    np.testing.assert_allclose(found.class_ap(), 1.0)
    assert matches([1, 1, 0], [0.6, 0.9, 0.5], [0, 1, 1]).pooled_ap() == pytest.approx(1.0)
    assert matches([1, 1, 0], [0.2, 0.9, 0.5], [0, 1, 1], ignored=[0, 0, 1]).pooled_ap() == pytest.approx(1.0)


def test_all_thresholds_together_equal_one_by_one() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 30):
        right, ignored = rng.integers(0, 1024, (2, n)).astype(np.uint16)
        ignored[0] = 1023  # before the first that counts
        scores, labels = np.sort(rng.random(n))[::-1], np.zeros(n, np.int32)
        found = Matches(scores, labels, right & ~ignored, ignored, np.array([n + 3]))
        flags = [(found.right >> t & 1)[(ignored >> t & 1) == 0] > 0 for t in range(10)]
        expected = [average_precision(hits, n + 3) for hits in flags]
        np.testing.assert_allclose(found.class_ap()[0], expected, rtol=1e-12)
        assert found.pooled_ap() == pytest.approx(np.mean(expected))


def test_nothing_to_find_and_nothing_found() -> None:
    assert math.isnan(Matches.none(2).pooled_ap()) and np.isnan(Matches.none(2).class_ap()).all()
    missed = matches([], [], [], positives=(1, 0))
    assert missed.pooled_ap() == 0.0 and missed.class_ap()[0].tolist() == [0.0] * 10
    assert np.isnan(missed.class_ap()[1]).all()


def test_every_threshold_has_its_bit() -> None:
    # detection i reaches only the first i + 1 thresholds, each its own object
    ious = THRESHOLDS + 0.01
    places = np.arange(10)
    right, ignored = match_greedily(Overlaps(places, places, places, ious), 10, *np.zeros((2, 10), bool))
    assert right.tolist() == [2 ** (i + 1) - 1 for i in range(10)] and not ignored.any()
    found = Matches(np.linspace(1, 0.1, 10), np.zeros(10, np.int32), right, ignored, np.array([10]))
    # at threshold t the first t are wrong and the rest right
    expected = [average_precision(places >= t, 10) for t in range(10)]
    np.testing.assert_allclose(found.class_ap()[0], expected)


def test_matching_by_hand() -> None:
    # object 0 counts, 1 is skipped, 2 is a crowd; detections by score. At 0.5: 0 takes object 0 though it overlaps the
    # skipped one more; 1 finds object 0 gone and takes 1; 2 and 3 both take the crowd; 4 overlaps nothing enough.
    pairs = [(0, 0, 0.6), (0, 1, 0.9), (1, 0, 0.95), (1, 1, 0.7), (2, 2, 0.6), (3, 2, 0.8), (4, 0, 0.3)]
    d, o, iou = (np.array(column) for column in zip(*pairs, strict=True))
    right, ignored = match_greedily(Overlaps(d, o, d, iou), 5, np.array([0, 1, 1], bool), np.array([0, 0, 1], bool))
    assert (right & 1).tolist() == [1, 0, 0, 0, 0] and (ignored & 1).tolist() == [0, 1, 1, 1, 0]
    # at 0.75: 0 takes the skipped one, so object 0 is left for 1
    assert (right >> 5 & 1).tolist() == [0, 1, 0, 0, 0] and (ignored >> 5 & 1).tolist() == [1, 0, 0, 1, 0]


def test_of_equal_overlaps_the_last_is_taken() -> None:
    overlaps = Overlaps(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0.7, 0.7, 0.7]))
    right, _ = match_greedily(overlaps, 2, *np.zeros((2, 2), bool))
    assert (right & 1).tolist() == [1, 0]  # the first took object 1, which is all that the second overlaps


def test_top_per_class_keeps_the_first_of_equal_scores() -> None:
    top = matches([1, 0, 0, 0, 1], [0.5, 0.5, 0.5, 0.9, 0.1], [0, 0, 0, 0, 1]).top_per_class(2)
    assert top.scores.tolist() == [0.5, 0.9, 0.1] and top.right.tolist() == [1023, 0, 1023]
    joined = Matches.join([top, top])
    assert len(joined) == 6 and joined.positives.tolist() == [2, 2]


def test_calibration_by_hand() -> None:
    groups = CategoryGroups.explicit({"rare": [0], "frequent": [1]})
    curves = matches([1, 0, 0, 1], [0.95, 0.91, 0.05, 1.0], [0, 0, 0, 1]).calibration(groups)
    assert curves["rare"]["count"] == [1, *[0] * 8, 2]
    assert curves["rare"]["precision"][-1] == 0.5 and curves["rare"]["score"][-1] == pytest.approx(0.93)
    assert curves["frequent"]["precision"][-1] == 1.0 and curves["rare"]["precision"][4] is None
