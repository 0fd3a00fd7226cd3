import pytest

from longtail.errors import ConfigError
from longtail.reports.curve import curve_svg, write_curve

SERIES = {
    "AP": {0.1: [10.0, 12.0], 0.7: [14.0, 15.0], 1.0: [13.0]},
    "r": {0.1: [1.0], 0.7: [3.0], 1.0: []},
    "never run": {0.1: [], 0.7: [], 1.0: []},
}


def test_panels_of_what_was_run(tmp_path):
    path = write_curve(SERIES, "lambda", tmp_path / "deep" / "curve.svg")
    text = path.read_text()
    assert text.count("lambda") >= 2
    assert ">AP<" in text.replace("\n", "")
    assert "never run" not in text
    assert write_curve(SERIES, "lambda", tmp_path / "curve.svg").read_bytes() == path.read_bytes()


def test_many_panels_stand_in_rows_and_a_page_takes_them(tmp_path):
    many = {f"score {i}": {0.0: [1.0], 1.0: [2.0]} for i in range(6)}
    svg = curve_svg(many, "lambda")
    assert svg.startswith("<svg") and all(f"score {i}" in svg for i in range(6))
    width, height = map(float, svg.split('viewBox="0 0 ')[1].split('"')[0].split())
    assert width < 4 * 3 * 72 + 1 and height > 2 * 2 * 72


def test_nothing_run_and_a_wrong_ending(tmp_path):
    assert write_curve({"AP": {0.1: []}}, "alpha", tmp_path / "empty.png").is_file()
    with pytest.raises(ConfigError, match=r"curve\.xyz"):
        write_curve(SERIES, "lambda", tmp_path / "curve.xyz")


def test_whole_values_are_marked_by_whole_numbers(tmp_path):
    text = write_curve({"AP": {3.0: [1.0], 4.0: [2.0]}}, "stages", tmp_path / "stages.svg").read_text()
    ticks = text[text.index('id="matplotlib.axis_1"') : text.index('id="matplotlib.axis_2"')]
    assert ">3<" in ticks.replace("\n", "") and "3.5" not in ticks
