"""What a report says of differences: only what their intervals support."""

import numpy as np
import pytest

from longtail.frequency import CategoryGroups
from longtail.metrics.image_counts import ImageCounts
from longtail.metrics.image_scores import ImageScores
from longtail.reports import error_tables, sections, tables
from longtail.reports.certainty import certainty
from longtail.reports.comparison import Comparison
from support.fake_runs import make_results, write_run

GROUPS = CategoryGroups.explicit({"head": [0], "tail": [1]})


def scores(right, images=60, names="image", seed=0):
    """Two classes of which a share of the pixels is right in every image, with some noise."""
    draw = np.random.default_rng(seed)
    counts = np.full((images, 3, len(right)), 1000)
    counts[:, 0] = (1000 * np.array(right) + draw.normal(0, 20, (images, len(right)))).round()
    return ImageScores({"": ImageCounts(tuple(f"{names} {i}" for i in range(images)), counts)})


def test_a_large_difference_is_told_and_none_is_not():
    known = certainty({"a": scores([0.8, 0.3]), "b": scores([0.8, 0.5], seed=1)}, GROUPS, draws=500)
    assert known.images == 60 and not known.missing
    assert known.told("b", "mIoU", "tail") and not known.told("b", "mIoU", "head")
    gain = known.gain("b", "mIoU", "tail")
    assert gain.low < 0.5 / 1.5 - 0.3 / 1.7 < gain.high
    assert known.gain("b", "AP", "tail") is None and "mIoU" in known.alone["a"]


def test_few_images_tell_nothing():
    few = certainty({"a": scores([0.8, 0.3], 16), "b": scores([0.8, 0.9], 16, seed=1)}, GROUPS, draws=200)
    assert few.gain("b", "mIoU", "tail").told_from_chance and not few.told("b", "mIoU", "tail")


def test_what_cannot_be_paired_is_said():
    other = certainty({"a": scores([0.8, 0.3]), "b": scores([0.8, 0.5], names="photo")}, GROUPS, draws=50)
    assert "b cannot be paired" in other.missing and not other.gains
    assert "b kept no scores" in certainty({"a": scores([0.8, 0.3]), "b": None}, GROUPS, draws=50).missing
    assert "no run kept" in certainty({"a": None, "b": None}, GROUPS).missing


def compared(tmp_path, images, better):
    runs = []
    for method, right in (("baseline", [0.5] * 6), ("medoe", [0.5] * 3 + [0.5 + better] * 3)):
        results = make_results(method, 6, tail_help=0.3 if method == "medoe" and better else 0.0)
        results.images = {method: scores(right, images, seed=len(method))}
        runs.append(write_run(tmp_path / method, results))
    return Comparison.load(runs, (300, 0))


@pytest.mark.parametrize(("images", "better"), [(16, 0.4), (60, 0.0)])
def test_the_headline_never_celebrates_what_is_not_told(tmp_path, images, better):
    comparison = compared(tmp_path, images, better)
    summary = sections.summary(comparison)
    assert "better" not in summary.lead and ("too few" in summary.lead) == (images == 16)
    cards = [card for block in summary.blocks for card in block.content]
    assert {card.tone for card in cards} <= {"muted", ""}
    assert {cell.tone for row in tables.group_tables(comparison)[0].rows for cell in row} <= {"muted", ""}


def test_what_is_told_is_coloured_and_has_its_interval(tmp_path):
    comparison = compared(tmp_path, 60, 0.4)
    table = error_tables.interval_table(comparison)
    row = table.rows[0]
    assert row[1].text == "mIoU" and row[2].tone == "good" and " … " in row[2].note
    base, method = comparison.baseline, comparison.method
    assert row[2].key == pytest.approx(method.score("mIoU") - base.score("mIoU"))
    assert "60 images, 300 draws" in table.caption
