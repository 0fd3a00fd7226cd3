import json
from dataclasses import replace

import pytest

from longtail.metrics.results import Prediction, Results
from longtail.reproduce.catalogue import MEMORY, Experiment, Row
from longtail.reproduce.outcome import outcome
from longtail.reproduce.page import markdown, save
from longtail.reproduce.plan import PlannedRun

EXPERIMENT = Experiment(
    paper="medoe",
    name="table-x",
    part="cityscapes",
    title="two rows",
    columns={"mIoU": "overall.mIoU", "tail": "groups.tail.mIoU", "uniform": "extra.uniform.overall.mIoU"},
    rows=(
        Row("plain", "m/baseline", published=(80.0, None, 10.5)),
        Row("ours", "m/medoe", published=(81.0, 70.0, 11.0), misprint="off by one"),
        Row("oracle", "m/medoe", readout="oracle"),
    ),
    baseline="plain",
    note="read me",
)


def scored(value: float) -> Prediction:
    uniform = {"method": "expected", "overall": {"mIoU": value / 2}, "groups": {}, "per_class": {}}
    return Prediction({"mIoU": value}, {"tail": {"mIoU": None}}, extra={"uniform": uniform})


@pytest.fixture
def runs(tmp_path) -> list[PlannedRun]:
    made = []
    for seed in (0, 1, 2):
        for method, value in (("baseline", 0.40 + 0.1 * seed), ("medoe", 0.41 + 0.1 * seed)):
            run = PlannedRun(f"m/{method}", seed, "segmentation", tmp_path / f"{method}{seed}", {})
            made.append(run)
            if (method, seed) == ("medoe", 2):
                continue
            predictions = {method: scored(value)} | ({"oracle": scored(0.9)} if method == "medoe" else {})
            Results("segmentation", method, ["a"], {"tail": [0]}, predictions).save(run.folder / "results.json")
    return made


def test_numbers_by_hand(runs):
    made = outcome(EXPERIMENT, runs, data="my/data", budget="smoke")
    plain, ours = made.cells["plain"]["mIoU"], made.cells["ours"]["mIoU"]
    assert plain.values == pytest.approx({0: 40.0, 1: 50.0, 2: 60.0})
    assert plain.ours == "50.0 ± 10.0"
    assert plain.difference is None
    assert ours.values == pytest.approx({0: 41.0, 1: 51.0})
    # two seeds are paired, the third baseline has no partner
    assert ours.difference.pairs == 2
    assert ours.difference.mean == pytest.approx(1.0)
    assert ours.change == "+1.0 (p < 0.01)"
    assert made.cells["oracle"]["mIoU"].values[1] == pytest.approx(90.0)
    assert made.cells["ours"]["uniform"].values[0] == pytest.approx(20.5)
    assert made.cells["ours"]["tail"].values == {}
    assert made.cells["ours"]["tail"].ours == "–"
    assert made.missing == 1


def test_memory_is_that_of_the_training_in_gigabytes(runs):
    for run in runs:
        if run.state == "done":
            results = Results.load(run.folder / "results.json")
            results.training = {"memory_gb": 24.0 if run.key == "m/baseline" else 34.0}
            results.save(run.folder / "results.json")
    rows = (
        Row("plain", "m/baseline", published=(25.8,)),
        Row("oracle", "m/medoe", readout="oracle", published=(35.5,)),
    )
    experiment = replace(EXPERIMENT, columns={"memory GB": MEMORY}, rows=rows)
    made = outcome(experiment, runs, data="my/data", budget="smoke")
    assert made.cells["plain"]["memory GB"].values == {0: 24.0, 1: 24.0, 2: 24.0}
    assert made.cells["oracle"]["memory GB"].difference.mean == 10.0


def test_written_for_readers_and_machines(runs, tmp_path):
    path = save(outcome(EXPERIMENT, runs, data="my/data", budget="smoke"), tmp_path / "out")
    text = path.read_text()
    assert "|  | seeds | mIoU paper | mIoU ours | tail paper |" in text and "|---|---:|" in text.replace(" ", "")
    assert "| plain | 3 | 80 | 50.0 ± 10.0 |" in text and "| 46.0 ± 7.1 +1.0 (p < 0.01) |" in text
    assert "- read me" in text
    assert "- ours: off by one." in text
    assert "1 runs have no results yet" in text
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["rows"]["ours"]["mIoU"]["published"] == 81.0
    assert record["rows"]["ours"]["mIoU"]["change"]["pairs"] == 2
    assert record["rows"]["ours"]["mIoU"]["verdict"] == "open" and record["claims"].startswith(
        "Changes that the paper prints: 2;"
    )


def test_verdicts_of_the_changes_that_the_paper_prints(tmp_path):
    """Printed +1.0; ours over three seeds: the same way, the other way, and lost in the spread."""

    def verdict(changes: tuple[float, ...], printed: tuple[float | None, float | None] = (80.0, 81.0)):
        runs = []
        for seed, change in enumerate(changes):
            for method, value in (("baseline", 0.40 + 0.1 * seed), ("medoe", 0.40 + 0.1 * seed + change)):
                runs.append(PlannedRun(f"m/{method}", seed, "segmentation", tmp_path / f"{method}{seed}", {}))
                Results("segmentation", method, ["a"], {"all": [0]}, {method: Prediction({"mIoU": value})}).save(
                    runs[-1].folder / "results.json"
                )
        rows = (Row("plain", "m/baseline", published=printed[:1]), Row("ours", "m/medoe", published=printed[1:]))
        experiment = Experiment("medoe", "t", "p", "x", {"mIoU": "overall.mIoU"}, rows, "plain")
        return outcome(experiment, runs, data="d", budget="smoke")

    assert verdict((0.011, 0.010, 0.009)).verdicts() == {"holds": ["ours, mIoU"], "contradicted": [], "open": []}
    against = verdict((-0.011, -0.010, -0.009))
    assert against.cells["ours"]["mIoU"].verdict == "contradicted"
    assert "prints: 1; hold in these runs (same direction, p < 0.05): 0; contra" in against.claims()
    assert against.claims().endswith("p < 0.05): 1; open: 0 (0 in the same direction). Contradicted: ours, mIoU.")
    assert against.claims() in markdown(against)
    for changes, leaning in (((0.01, -0.01, 0.02), 1), ((-0.01, 0.01, -0.02), 0)):
        undecided = verdict(changes)
        assert undecided.cells["ours"]["mIoU"].verdict == "open"
        assert undecided.claims().endswith(f"open: 1 ({leaning} in the same direction).")
    # one seed decides nothing, nor do two that happen to agree
    assert verdict((0.5,)).cells["ours"]["mIoU"].verdict == "open"
    assert verdict((0.5, 0.5001)).cells["ours"]["mIoU"].difference.p < 0.01
    assert verdict((0.5, 0.5001)).cells["ours"]["mIoU"].verdict == "open"
    unprinted = verdict((0.011, 0.010, 0.009), (80.0, None))
    assert unprinted.cells["ours"]["mIoU"].verdict is None and unprinted.claims() == ""
    assert verdict((0.011, 0.010, 0.009), (80.0, 80.0)).cells["ours"]["mIoU"].verdict is None


def test_rows_that_name_their_partner(runs):
    rows = (EXPERIMENT.rows[0], Row("ours", "m/medoe", against="plain"), Row("alone", "m/medoe"))
    made = outcome(
        Experiment("medoe", "t", "p", "x", EXPERIMENT.columns, rows, "plain"), runs, data="d", budget="smoke"
    )
    assert made.cells["ours"]["mIoU"].difference is not None
    assert made.cells["alone"]["mIoU"].difference is None
