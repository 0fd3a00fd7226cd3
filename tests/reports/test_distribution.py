import re

import numpy as np
import pytest

from longtail.datasets.coco_lt import LongTailSubset
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.reports.distribution import draw_alignment, draw_counts
from support.fake_runs import frequency


def heights(svg: str, colour: str) -> list[float]:
    """y of the points of the curve of a colour, left to right; SVG's y grows downwards."""
    path = next(p for p in re.findall(r"<path [^>]*?>", svg, flags=re.DOTALL) if colour in p and "fill: none" in p)
    return [-float(y) for y in re.findall(r"[ML] [-\d.]+ ([-\d.]+)", path)]


def test_three_curves_of_figure_5(tmp_path):
    source = np.array([50, 4000, 900, 300])
    target = np.array([3, 800, 100, 20])
    result = np.array([3, 2500, 110, 0])
    free = np.array([False, True, False, False])
    subset = LongTailSubset(tuple("abcd"), np.arange(7), source, target, result, free)
    text = draw_alignment(subset, tmp_path / "out" / "figure.svg").read_text()
    for words in ("whole data set: 5,250", "target: the reference", "923", "images chosen: 2,613", "filled last"):
        assert words in text
    whole, wanted, chosen = (heights(text, colour) for colour in ("#98a2ad", "#e0672a", "#3b7fc4"))
    # classes by the source's counts: 4000, 900, 300, 50
    assert len(whole) == len(wanted) == 4 and whole == sorted(whole, reverse=True)
    # equal distances on a logarithmic axis are equal ratios
    per_decade = (whole[0] - whole[1]) / np.log10(4000 / 900)
    assert wanted[0] - whole[0] == pytest.approx(np.log10(800 / 4000) * per_decade, abs=0.01)
    # a class that no image shows leaves a gap: nothing is drawn at its rank
    assert len(chosen) == 3 and chosen[0] - whole[0] == pytest.approx(np.log10(2500 / 4000) * per_decade, abs=0.01)


@pytest.mark.parametrize(("num_classes", "kind"), [(1, "png"), (12, "pdf"), (400, "svg")])
def test_counts_of_any_number_of_classes(tmp_path, num_classes, kind):
    counts = frequency(num_classes)
    path = draw_counts(counts, CategoryGroups.by_share(counts), "pixels", tmp_path / f"counts.{kind}")
    content = path.read_bytes()
    assert content.startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[kind])
    assert kind != "svg" or b"most frequent first" in content


def test_a_class_without_objects_and_other_formats(tmp_path):
    counts = ClassFrequency(("a", "b", "c"), np.array([5, 0, 1]), None, np.array([9, 0, 2]))
    groups = CategoryGroups.explicit({"all": range(3)})
    draw_counts(counts, groups, "instances", tmp_path / "a.svg")
    with pytest.raises(ConfigError, match=r"a\.txt"):
        draw_counts(counts, groups, "instances", tmp_path / "a.txt")
