import csv

from longtail.training.metrics_file import MetricsFile, measured


def read(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_columns_come_as_they_are_needed(tmp_path):
    table = MetricsFile(tmp_path / "metrics.csv")
    table.append("experts", 10, {"loss": 1.23456789})
    table.append("experts", 20, {"loss": 1.0, "val/mIoU": 0.5})
    table.append("ensemble", 5, {"loss": 0.5})
    assert read(table.path) == [
        {"phase": "experts", "iteration": "10", "loss": "1.23457", "val/mIoU": ""},
        {"phase": "experts", "iteration": "20", "loss": "1", "val/mIoU": "0.5"},
        {"phase": "ensemble", "iteration": "5", "loss": "0.5", "val/mIoU": ""},
    ]


def test_a_resumed_run_forgets_what_it_will_measure_again(tmp_path):
    table = MetricsFile(tmp_path / "metrics.csv")
    for phase, iteration in (("experts", 10), ("experts", 20), ("ensemble", 5), ("ensemble", 10)):
        table.append(phase, iteration, {"loss": 1.0})
    again = MetricsFile(table.path)
    again.forget_after("ensemble", 7, ("experts",))
    assert [(r["phase"], r["iteration"]) for r in read(table.path)] == [
        ("experts", "10"),
        ("experts", "20"),
        ("ensemble", "5"),
    ]


def test_a_row_cut_off_by_a_kill_is_dropped(tmp_path):
    table = MetricsFile(tmp_path / "metrics.csv")
    table.append("experts", 10, {"loss": 1.0, "lr": 0.1})
    with table.path.open("a") as handle:
        handle.write("experts,2")
    again = MetricsFile(table.path)
    again.forget_after("experts", 10, ())
    assert [r["iteration"] for r in read(table.path)] == ["10"]


def test_what_was_measured_besides_losses(tmp_path):
    table = MetricsFile(tmp_path / "metrics.csv")
    table.append("train", 10, {"loss": 1.0, "memory_gb": 2.0, "positives/stage_1/rare": 3.0})
    table.append(
        "train", 20, {"loss": 1.0, "memory_gb": 2.5, "positives/stage_1/rare": 5.0, "positives/stage_2/rare": 6.0}
    )
    table.append("classifier", 10, {"loss": 1.0, "memory_gb": float("nan")})
    assert measured(table.path) == {
        "memory_gb": 2.5,
        "positives": {"stage_1": {"rare": 4.0}, "stage_2": {"rare": 6.0}},
    }
    assert measured(tmp_path / "none.csv") == {}
