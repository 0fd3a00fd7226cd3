"""Thresholds of the best F1 by hand and against every possible threshold."""

import json

import numpy as np
import pytest

from longtail.errors import DataError
from longtail.metrics.matches import Matches
from longtail.metrics.operating_points import OperatingPoints, read_thresholds


def matches_of(scores, labels, right, positives, ignored=None):
    bits = np.array(right, dtype=np.uint16)
    unseen = np.zeros_like(bits) if ignored is None else np.array(ignored, dtype=np.uint16)
    return Matches(np.array(scores, dtype=float), np.array(labels, dtype=np.int32), bits, unseen, np.array(positives))


def test_by_hand():
    # class 0: right at .9, wrong at .8, right at .7, of 2 objects: F1 2/3, 1/2, 4/5
    # class 1: found by nobody; class 2: has no objects
    matches = matches_of([0.9, 0.8, 0.7, 0.6, 0.5], [0, 0, 0, 1, 2], [1, 0, 1, 0, 0], [2, 3, 0])
    points = OperatingPoints.best_f1(matches, ("a", "b", "c"))
    np.testing.assert_allclose(points.thresholds, [0.7, np.nan, np.nan])
    np.testing.assert_allclose(points.precision[0], 2 / 3)
    np.testing.assert_allclose(points.recall[0], 1.0)
    np.testing.assert_allclose(points.f1[0], 0.8)
    # of those that score 0.75 or more, the one right detection reaches half of class 0: 51 of 101 recalls
    surest = OperatingPoints.best_f1(matches, ("a", "b", "c"), default=0.75)
    np.testing.assert_allclose(surest.default_ap, [51 / 101, 0.0, np.nan])


def test_equal_scores_are_kept_together_and_ignored_ones_do_not_count():
    tied = OperatingPoints.best_f1(matches_of([0.5, 0.5], [0, 0], [1, 0], [1]), ("a",))
    assert (tied.thresholds[0], tied.precision[0], tied.recall[0]) == (0.5, 0.5, 1.0)
    ignored = OperatingPoints.best_f1(matches_of([0.9, 0.5], [0, 0], [0, 1], [1], ignored=[1, 0]), ("a",))
    assert ignored.precision[0] == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_is_better(seed):
    draw = np.random.default_rng(seed)
    scores, labels = draw.integers(0, 20, 200) / 20, draw.integers(0, 3, 200)
    right, positives = draw.random(200) < 0.4, np.array([60, 50, 40])
    points = OperatingPoints.best_f1(matches_of(scores, labels, right, positives), ("a", "b", "c"))
    for label in range(3):
        own = labels == label
        f1 = [
            2 * right[own & (scores >= t)].sum() / ((own & (scores >= t)).sum() + positives[label]) for t in scores[own]
        ]
        assert points.f1[label] == pytest.approx(max(f1))


def test_saved_thresholds_are_read_by_name(tmp_path):
    path = tmp_path / "thresholds.json"
    OperatingPoints(("a", "b"), *np.array([[0.3, np.nan], [0.5, np.nan], [0.7, np.nan], [0.1, 0.0]])).save(path)
    assert json.loads(path.read_text())["classes"]["b"] == {
        **dict.fromkeys(("threshold", "precision", "recall", "f1")),
        "default_ap": 0.0,
    }
    np.testing.assert_allclose(read_thresholds(path, ["b", "a"]), [np.nan, 0.3])
    with pytest.raises(DataError, match=r"thresholds\.json has no threshold of class 'c'"):
        read_thresholds(path, ["a", "c"])


@pytest.mark.parametrize(
    "content", [[], {}, {"classes": 3}, {"classes": {"a": 0.5}}, {"classes": {"a": {"threshold": "x"}}}]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="thresholds"):
        read_thresholds(path, ["a"])
