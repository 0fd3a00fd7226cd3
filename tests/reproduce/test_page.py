from longtail.reproduce.catalogue import Experiment, Row
from longtail.reproduce.outcome import Cell, Outcome
from longtail.reproduce.page import curve_series, section
from longtail.reproduce.significance import PairedDifference

ROWS = (Row("α = 0", "m/a", at=0.0), Row("α = 0.2", "m/b", at=0.2, misprint="off by one"))


def outcome(curve: str = "") -> Outcome:
    experiment = Experiment(
        "medoe", "figure-x", "ade20k", "a weight", {"mIoU": "", "mAcc": ""}, ROWS, "α = 0", curve=curve
    )
    better = PairedDifference(2.0, 3, 0.01)
    cells = {
        "α = 0": {"mIoU": Cell(40.0, {0: 10.0, 1: 12.0}), "mAcc": Cell(None, {0: 30.0})},
        "α = 0.2": {"mIoU": Cell(43.0, {0: 12.0, 1: 14.0}, better, 3.0), "mAcc": Cell(None, {})},
    }
    return Outcome(experiment, "my/data", "small", cells, 0)


def test_printed_numbers_stand_beside_ours_where_there_are_any():
    made = section(outcome())
    (block,) = made.blocks
    table = block.content
    assert list(table.columns) == [("", ""), ("", "seeds"), ("mIoU", "paper"), ("mIoU", "ours"), ("mAcc", "ours")]
    first, second = table.rows
    assert [cell.text for cell in first] == ["α = 0", "2", "40", "11.0 ± 1.4", "30.0"]
    assert [cell.text for cell in second] == ["α = 0.2", "2", "43", "13.0 ± 1.4", "–"]
    assert second[3].note == "+2.0 (p = 0.01)" and second[3].tone == "good"
    assert "p < 0.05): 1; contradicted" in made.lead and "off by one" in table.caption


def test_curve_of_what_was_run():
    assert curve_series(outcome()) == {"mIoU": {0.0: [10.0, 12.0], 0.2: [12.0, 14.0]}, "mAcc": {0.0: [30.0], 0.2: []}}
    plot = section(outcome("alpha")).blocks[1]
    assert plot.kind == "plot" and plot.content.startswith("<svg") and "alpha" in plot.content
