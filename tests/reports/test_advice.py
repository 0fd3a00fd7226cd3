"""What would help: every sentence rests on a number of the results."""

import re
from pathlib import Path

import numpy as np
import pytest

from longtail.reports import advice, error_tables
from longtail.reports.comparison import Comparison, Run
from support.fake_runs import make_detection_results, make_results


@pytest.fixture
def detection():
    results = make_detection_results("mec")
    own, count = results.own, len(results.class_names)
    results.predictions["stage_2"] = type(own)(dict(own.overall), dict(own.groups), {"AP": list(own.per_class["AP"])})
    own.per_class["AP"][38] = 0.01
    results.predictions["stage_2"].per_class["AP"][38] = 0.31
    cost = {
        kind: [0.0] * count for kind in ("localisation", "classification", "duplicate", "background", "both", "missed")
    }
    cost["classification"][38] = 0.4
    counts = {kind: [0] * count for kind in cost}
    counts["classification"][38] = 7
    own.extra["errors"] = {"cost": cost, "counts": counts, "lost": [9] * count, "confused": [[0, 38, 5]]}
    return Comparison([Run("MEC", results, Path("results.json"))])


def said(table):
    """What to try, row by row."""
    place = [name for _, name in table.columns].index("what to try")
    return [row[place].text for row in table.rows]


def test_the_measured_gain_comes_first_then_the_bound(detection):
    index = advice.failing_classes(detection)[0]
    assert index == 38
    table = advice.advice_table(detection)
    words = said(table)[0]
    assert words.startswith("Read as Stage 2 it has 31.0 AP: +30.0 (its whole group: ")
    assert (
        "Confusions with other classes cost up to 40.0 AP50 (9 on its objects, most as thing 0: 5; 7 of it on others): "
        in words
    )
    assert [cell.text for cell in (table.rows[0][0], *table.rows[0][2:4])] == ["thing 38", "rare", "1.0"]


def test_no_sentence_without_a_number(detection):
    table = advice.advice_table(detection, limit=None)
    for sentences in said(table):
        assert sentences == "–" or all(re.search(r"\d", part) for part in re.split(r"\. (?=[A-Z])", sentences))


def test_the_slope_is_that_of_a_line(detection):
    slope = advice.data_slope(detection)
    values = detection.values(detection.method, "AP")
    known = np.isfinite(values)
    x = np.log2(detection.counts[0][known])
    expected = np.cov(x, values[known])[0, 1] / np.var(x, ddof=1)
    assert slope.gain == pytest.approx(expected) and slope.classes == known.sum()
    assert slope.correlation == pytest.approx(np.corrcoef(x, values[known])[0, 1])


def test_no_slope_where_frequency_does_not_tell_the_score():
    results = make_detection_results("mec")
    results.predictions["mec"].per_class["AP"] = [0.1 + 0.2 * (c % 2) for c in range(len(results.class_names))]
    assert advice.data_slope(Comparison([Run("MEC", results, Path("results.json"), {})])) is None


def test_no_slope_without_training_counts():
    assert (
        advice.data_slope(Comparison([Run("a", make_results("medoe", 9, with_frequency=False), Path("results.json"))]))
        is None
    )


@pytest.mark.parametrize(("near", "usual", "remedy"), [(90, 200, "sharper maps"), (90, 900, "tells the two apart")])
def test_pixels_near_boundaries_are_judged_by_how_many_always_are(near, usual, remedy):
    results = make_results("medoe", 5)
    results.own.per_class["IoU"][3] = 0.01
    results.own.extra |= {
        "flows": {"band": 0.02, "groups": {}, "classes": [[3, 0, 100, near]]},
        "class_pixels": [1000] * 5,
        "class_band": [usual] * 5,
    }
    ideas = list(advice.ideas_for(Comparison([Run("a", results, Path("results.json"))]), 3, None))
    words = next(idea.words for idea in ideas if "of its pixels" in idea.words)
    assert words.startswith("10.0 % of its pixels are called") and remedy in words


def test_errors_and_their_classes_as_tables(detection):
    table = error_tables.error_group_table(detection)
    kinds = {row[1].text: row for row in table.rows}
    assert kinds["classification"][2].key == 7
    rare = detection.groups.members[detection.groups.names.index("rare")]
    column = [name for _, name in table.columns].index("rare")
    assert kinds["classification"][column].key == pytest.approx(0.4 / len(rare))
    worst = error_tables.error_class_table(detection).rows[0]
    assert worst[0].text == "thing 38" and worst[0].index == 38 and worst[-1].text == "thing 0"
