import re
import warnings

import pytest
from matplotlib.patches import Patch

from longtail.reports.axes import legend_below
from longtail.reports.comparison import Comparison
from longtail.reports.detection_plots import reliability, score_against_weight, stage_curves
from longtail.reports.svg import new_figure
from support.fake_runs import make_detection_results, write_run


def runs(tmp_path, weights: list[float | None]) -> Comparison:
    folders = []
    for number, weight in enumerate(weights):
        results = make_detection_results("mec", 0.02 * number)
        results.settings = {"method": {"name": "mec", "overall_weight": weight}}
        folders.append(write_run(tmp_path / f"run {number}", results))
    return Comparison.load(folders)


def test_a_panel_a_run_for_its_stages(tmp_path):
    svg = stage_curves(runs(tmp_path, [0.5, 0.7]))
    assert svg.count("together") == 2 and svg.count("stage 2") == 2
    assert "rare" in svg and "mask_AP" not in svg


def test_many_runs_go_below_each_other(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of panels without room
        few, many = (stage_curves(runs(tmp_path / str(n), [0.5] * n)) for n in (3, 8))
    heights = [float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg).group(1)) for svg in (few, many)]
    assert many.count("together") == 8 and heights[1] > 2.5 * heights[0]


def test_a_long_legend_takes_several_rows():
    figure, _ = new_figure(10.0, 3.0)
    legend_below(figure, [Patch(label="a run of a long name " * 2 + str(n)) for n in range(7)])
    assert figure.get_figheight() == pytest.approx(3.0 + 0.2 * 3) and figure.legends[0]._ncols == 2
    legend_below(figure, [Patch(label=name) for name in ("rare", "common", "frequent")])
    assert figure.legends[1]._ncols == 3


def test_lambda_is_drawn_where_the_runs_differ_in_it(tmp_path):
    svg = score_against_weight(runs(tmp_path, [0.3, 0.7, 0.5]))
    assert "λ" in svg and "frequent" in svg
    assert score_against_weight(runs(tmp_path / "two", [0.3, 0.7])) is None
    assert score_against_weight(runs(tmp_path / "none", [None, None, None])) is None


def test_reliability_names_its_points(tmp_path):
    results = make_detection_results("mec")
    empty = {"score": [None, None], "precision": [None, None], "count": [0, 0]}
    curves = dict.fromkeys(results.groups, empty)
    curves["rare"] = {"score": [0.04, 0.6], "precision": [0.25, 0.5], "count": [300, 10]}
    results.own.extra["calibration"] = curves
    shown = Comparison.load([write_run(tmp_path / "a", results)])
    titles = re.findall(r"<title>([^<]+)</title>", reliability(shown))
    assert titles == [
        "rare: 300 detections of score 4 %, 25.0 % right",
        "rare: 10 detections of score 60 %, 50.0 % right",
    ]
    results.own.extra.clear()
    assert reliability(Comparison.load([write_run(tmp_path / "b", results)])) is None


@pytest.mark.parametrize("stages", [0, 1])
def test_one_stage_is_no_curve(tmp_path, stages):
    results = make_detection_results("mec")
    for k in range(stages + 1, 3):
        results.predictions.pop(f"stage_{k}")
    assert stage_curves(Comparison.load([write_run(tmp_path / "a", results)])) is None
