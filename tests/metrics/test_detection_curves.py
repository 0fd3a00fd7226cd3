"""Curves by hand and against every threshold counted in plain Python."""

import numpy as np
import pytest

from longtail.frequency import CategoryGroups
from longtail.metrics.detection_curves import LEVELS, RECALLS, class_curves, group_curves
from longtail.metrics.matches import Matches


def matches_of(scores, labels, right, positives):
    bits = np.array(right, dtype=np.uint16)
    none = np.zeros_like(bits)
    return Matches(np.array(scores, dtype=float), np.array(labels, dtype=np.int32), bits, none, np.array(positives))


def test_by_hand():
    # right at .9, wrong at .8, right at .5, of 2 objects; class 1 is never found, class 2 has no objects
    matches = matches_of([0.9, 0.8, 0.5, 0.4], [0, 0, 0, 1], [1, 0, 1, 0], [2, 4, 0])
    precision, f1 = class_curves(matches)
    np.testing.assert_allclose(precision[0], [1.0] * 51 + [2 / 3] * 50)
    np.testing.assert_allclose(f1[0][[0, 50, 51, 80, 81, 90, 91]], [4 / 5, 4 / 5, 1 / 2, 1 / 2, 2 / 3, 2 / 3, 0])
    assert (precision[1] == 0).all() and (f1[1] == 0).all()
    assert np.isnan(precision[2]).all() and np.isnan(f1[2]).all()
    curves = group_curves(matches, CategoryGroups.explicit({"rare": [1], "frequent": [0], "none": [2]}))
    assert list(curves) == ["all", "rare", "frequent", "none"]
    assert curves["all"]["precision"][0] == 0.5 and curves["frequent"]["f1"][0] == pytest.approx(4 / 5)
    assert curves["none"]["f1"] == [None] * len(LEVELS)


@pytest.mark.parametrize("seed", range(3))
def test_equal_plain_counts(seed):
    draw = np.random.default_rng(seed)
    scores, labels = draw.integers(0, 30, 300) / 30, draw.integers(0, 3, 300)
    right, positives = (draw.random(300) < 0.4).astype(int), np.array([70, 60, 50])
    matches = matches_of(scores, labels, right, positives)
    precision, f1 = class_curves(matches)
    np.testing.assert_allclose(precision.mean(axis=1), matches.class_ap()[:, 0])
    assert len(RECALLS) == precision.shape[1]
    for label in range(3):
        for place, level in enumerate(LEVELS):
            above = (labels == label) & (scores >= level)
            expected = 2 * right[above].sum() / (above.sum() + positives[label])
            assert f1[label, place] == pytest.approx(expected)
