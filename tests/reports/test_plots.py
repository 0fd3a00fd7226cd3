import re

import pytest

from longtail.reports import plots
from longtail.reports.axes import GROUP_COLOURS, group_colours
from longtail.reports.comparison import Comparison
from longtail.reports.svg import new_figure, style, to_svg
from support.fake_runs import make_results, write_run


@pytest.fixture
def comparison(tmp_path):
    runs = [
        write_run(tmp_path / m, make_results(m, 150, tail_help=0.1 * i)) for i, m in enumerate(("baseline", "medoe"))
    ]
    return Comparison.load(runs)


def test_every_bar_names_its_class(comparison):
    titles = re.findall(r"<title>([^<]+)</title>", plots.frequency_histogram(comparison))
    assert len(titles) == 150
    counts, _ = comparison.counts
    index = comparison.order[0]
    assert titles[0].startswith(f"{comparison.class_names[index]}: {counts[index]:,} training pixels")
    gains = re.findall(r"<title>([^<]+)</title>", plots.gain_bars(comparison))
    assert len(gains) == 300
    before, after = (100 * comparison.values(e, "IoU")[index] for e in (comparison.baseline, comparison.method))
    assert gains[0] == f"{comparison.class_names[index]}: IoU {before:.1f} → {after:.1f} ({after - before:+.1f})"


def test_every_point_names_its_class(comparison):
    titles = re.findall(r"<title>([^<]+)</title>", plots.score_against_frequency(comparison))
    assert len(titles) == 300
    assert len({title.split(":")[0] for title in titles}) == 150


def test_plots_stay_small(comparison):
    for svg in (plots.frequency_histogram(comparison), plots.gain_bars(comparison), plots.group_bars(comparison)):
        assert len(svg) < 120_000


def test_the_heat_map_names_the_worst_class_first(comparison):
    svg = plots.confusion_heat_map(comparison, comparison.method)
    iou = comparison.values(comparison.method, "IoU")
    worst = comparison.class_names[int(iou.argmin())].split(",")[0]
    assert worst in svg and "all others" in svg


def test_group_colours_follow_the_name_whatever_the_order():
    assert group_colours(["head", "body", "tail"]) == list(GROUP_COLOURS[:3])
    assert group_colours(["rare", "common", "frequent"]) == list(GROUP_COLOURS[2::-1])
    assert len(set(group_colours(["a", "b", "c", "d"]))) == 4
    assert len(set(group_colours(["tail", "x"]))) == 2
    assert len(group_colours([f"g{i}" for i in range(9)])) == 9


def test_ids_differ_between_figures_and_bytes_are_the_same_every_time():
    def draw(name):
        with style():
            figure, axes = new_figure(3, 2)
            axes.scatter([1, 2], [3, 4], gid="hover-dots")
            return to_svg(figure, name, 'a "label"', {"hover-dots": ["one", "<two>"]})

    assert draw("first") == draw("first")
    svg = draw("second")
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (draw("first"), svg)]
    assert ids[1] and not ids[0] & ids[1]
    assert ids[1] == set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    assert not re.search(r"\.\d{3}", svg)
    assert re.findall(r"<use [^>]*><title>([^<]+)</title>", svg) == ["one", "&lt;two&gt;"]
    assert 'aria-label="a &quot;label&quot;"' in svg
    assert "<metadata" not in svg and "<?xml" not in svg
