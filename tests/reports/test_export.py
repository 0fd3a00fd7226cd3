"""Tables as files and data frames."""

import csv
import io

import pytest

from longtail.reports import export
from longtail.reports.cells import Cell, Table
from longtail.reports.comparison import Comparison
from support.fake_runs import make_detection_results, make_results, write_run

TABLE = Table(
    "Two | things",
    [("", ""), ("AP", "all"), ("", "class")],
    [[Cell("a"), Cell("12.34", "+1.00", key=0.1234), Cell("x|y")], [Cell(""), Cell("–"), Cell("z")]],
    "A caption.",
)


def test_csv_has_fractions_in_full_and_a_label_in_every_row():
    assert list(csv.reader(io.StringIO(export.to_csv(TABLE)))) == [
        ["run", "AP all", "AP all, note", "class"],
        ["a", "0.1234", "+1.00", "x|y"],
        ["a", "", "", "z"],
    ]


def test_csv_has_numbers_where_notes_say_numbers():
    cell = Cell("+1.00", "0.50 … 1.50", key=0.01, numbers={"low": 0.005, "high": 0.015})
    table = Table("", [("", "run"), ("AP", "all")], [[Cell("a"), cell], [Cell("b"), Cell("–")]])
    assert export.to_csv(table).splitlines() == [
        'run,AP all,"AP all, low","AP all, high"',
        "a,0.01,0.005,0.015",
        "b,,,",
    ]


def test_markdown_shows_what_the_page_shows():
    lines = export.to_markdown(TABLE).splitlines()
    assert lines[2:6] == ["|  | AP all | class |", "|---|---:|---|", "| a | 12.34 (+1.00) | x\\|y |", "|  | – | z |"]
    assert lines[-1] == "A caption."


def test_frames_have_numbers():
    pytest.importorskip("pandas")
    frame = export.to_frame(TABLE)
    assert frame["AP all"][0] == 0.1234 and list(frame["run"]) == ["a", "a"]


@pytest.mark.parametrize("make", [make_results, make_detection_results])
def test_every_table_of_a_run_is_written(tmp_path, make):
    pytest.importorskip("pandas")
    runs = [write_run(tmp_path / name, make(name)) for name in ("baseline", "other")]
    comparison = Comparison.load(runs)
    files = {path.name for path in export.export_tables(comparison, tmp_path / "tables")}
    assert {"classes.csv", "groups.csv", "groups.md", "overall.csv", "advice.csv"} <= files
    for path in (tmp_path / "tables").glob("*.csv"):
        cells = [cell for row in csv.reader(path.open()) for cell in row]
        assert not [cell for cell in cells if "…" in cell or "%" in cell.replace("% of its pixels", "")], path
    frame = export.class_frame(comparison)
    assert len(frame) == len(comparison.class_names) and "group" in frame
