import io

import pytest
from rich.console import Console

from longtail.reports.cells import Cell, Table
from longtail.reports.comparison import Comparison
from longtail.reports.console import print_table
from longtail.reports.tables import expert_table, group_tables
from support.fake_runs import make_results, write_run


def printed(table: Table, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    print_table(table, console)
    return console.export_text()


@pytest.fixture
def comparison(tmp_path):
    folders = [tmp_path / "a", tmp_path / "a_run_of_a_long_name"]
    return Comparison.load([write_run(folder, make_results("medoe", 51, experts=3)) for folder in folders])


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_number_is_cut(comparison, width):
    for table in (*group_tables(comparison), expert_table(comparison)):
        text = printed(table, width)
        assert "…" not in text and max(len(line) for line in text.splitlines()) <= width
        for cell in (cell for row in table.rows for cell in row[1:]):
            assert cell.text in text and cell.note in text


def test_a_part_begins_with_a_band(comparison):
    lines = printed(group_tables(comparison)[0], 80).splitlines()
    starts = [line.split()[0] for line in lines if "mIoU" in line or "mAcc" in line]
    assert starts == ["mIoU", "mAcc"] and not any("mIoU" in line and "mAcc" in line for line in lines)
    wide = printed(group_tables(comparison)[0], 200).splitlines()
    assert sum("mIoU" in line and "mAcc" in line for line in wide) == 1


def test_title_caption_and_the_first_column_of_each_part():
    table = Table(
        "Scores",
        [("", ""), *((f"metric {i}", "all") for i in range(12))],
        [[Cell("ours"), *[Cell("12.34")] * 12]],
        "Percent.",
    )
    text = printed(table, 60)
    assert text.count("Scores") == text.count("Percent.") == 1
    assert text.count("ours") > 1 and text.count("12.34") == 12


def test_long_names_are_folded():
    name = "a_run_whose_folder_has_a_name_longer_than_any_terminal_likes_to_show_it"
    text = printed(Table("", [("", ""), ("AP", "all"), ("AP", "rare")], [[Cell(name), Cell("1.00"), Cell("2.00")]]), 40)
    assert name in "".join(text.replace("1.00", "").replace("2.00", "").split())
    assert max(len(line) for line in text.splitlines()) <= 40
