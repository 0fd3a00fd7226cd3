import csv
import io

import pytest

from longtail.metrics.results import Prediction
from longtail.reports import cells, tables
from longtail.reports.comparison import Comparison
from longtail.reports.html import class_csv
from support.fake_runs import make_detection_results, make_results, write_run


@pytest.fixture
def comparison(tmp_path):
    baseline = write_run(tmp_path / "a", make_results("baseline", 80, absent=2))
    method = write_run(tmp_path / "b", make_results("medoe", 80, experts=3, tail_help=0.2, absent=2))
    return Comparison.load([baseline, method])


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_group_table_holds_the_scores_and_their_differences(comparison):
    table = tables.group_tables(comparison)[0]
    assert [name for _, name in table.columns] == ["", *["all", "head", "body", "tail"] * 2, "aAcc"]
    assert table.bands == [("", 1), ("mIoU", 4), ("mAcc", 4), ("", 1)]
    assert [row[0].text for row in table.rows] == ["Baseline", "MEDOE", "Group average", "Oracle †"]
    assert table.quiet == {3}
    before, after = comparison.baseline.prediction, comparison.method.prediction
    tail = table.rows[1][4]
    assert tail.text == f"{100 * after.groups['tail']['mIoU']:.2f}"
    gain = 100 * (after.groups["tail"]["mIoU"] - before.groups["tail"]["mIoU"])
    assert tail.note == f"{gain:+.2f}".replace("-", "−")
    assert tail.tone == "muted"  # there are no scores image by image to tell it from chance
    assert table.rows[0][1].note == ""


def test_the_best_fair_value_is_strong_and_the_oracle_never(comparison):
    table = tables.group_tables(comparison)[0]
    for column in range(1, len(table.columns)):
        strong = [row for row in table.rows[:3] if row[column].strong]
        assert len(strong) >= 1
        assert all(row[column].key <= strong[0][column].key for row in table.rows[:3])
    assert not any(cell.strong for cell in table.rows[3])


def test_uniform_table_reads_the_uniform_scores(comparison):
    table = tables.group_tables(comparison, uniform=True)[0]
    expected = comparison.method.prediction.extra["uniform"]["groups"]["head"]["mIoU"]
    assert table.rows[1][2].text == f"{100 * expected:.2f}"


def test_expert_table_has_bias_and_shades_the_better_deeper(comparison):
    table = tables.expert_table(comparison)
    assert [row[0].text for row in table.rows] == ["MEDOE", "Expert 1", "Expert 2", "Expert 3"]
    column = table.columns.index(("bias", "all"))
    best = min(table.rows, key=lambda row: float(row[column].text))
    assert best[column].shade == 1
    column = table.columns.index(("mAcc", "head"))
    assert max(table.rows, key=lambda row: float(row[column].text))[column].shade == 1


def test_group_errors_are_shares_of_the_true_group(comparison):
    table = tables.group_error_table(comparison)
    analysis = comparison.baseline.prediction.extra["fp_fn_by_group"]
    expected = analysis["mass"]["head"]["tail"] / analysis["groups"]["head"]["pixels"]
    assert table.rows[0][4].text == f"{100 * expected:.2f}"


def test_top_confusions_name_both_classes(comparison):
    truth, called, pixels, total = comparison.method.prediction.extra["top_confusions"][0]
    matrix = comparison.method.prediction.extra["confusion"]
    assert (pixels, total) == (matrix[truth][called], sum(matrix[truth]))
    first = [cell.text for cell in tables.top_confusion_table(comparison).rows[0]]
    assert first[0] == comparison.class_names[truth] and first[2] == comparison.class_names[called]
    assert first[3:] == [f"{100 * pixels / total:.1f}", f"{pixels:,}"]


def test_extreme_classes_are_ordered(comparison):
    worst, best = (tables.extreme_classes_table(comparison, best=best, count=5) for best in (False, True))
    low, high = ([float(row[3].text) for row in table.rows] for table in (worst, best))
    assert low == sorted(low) and high == sorted(high, reverse=True)
    assert max(low) <= min(high)


def test_class_table_lists_every_class_with_dashes_for_the_undefined(comparison):
    table = tables.class_table(comparison)
    assert sorted(int(row[0].text) for row in table.rows) == list(range(80))
    assert sum(row[-1].text == "–" for row in table.rows) == 2


def test_no_experts_no_errors_no_correlation(tmp_path):
    results = make_results("medoe", 3, with_frequency=False)
    results.predictions["medoe"].extra.clear()
    bare = Comparison.load([write_run(tmp_path / "a", results)])
    assert tables.expert_table(bare) is None
    assert tables.group_error_table(bare) is None
    assert tables.correlation_table(bare) is None


def test_many_overall_scores_get_a_table_of_their_own(tmp_path):
    few = Comparison.load([write_run(tmp_path / "a", make_detection_results("mec"))])
    assert tables.overall_table(few) is None
    assert ("", "AP50") in tables.group_tables(few)[0].columns
    results = make_detection_results("mec")
    results.predictions["mec"].overall |= {"APm": 0.1, "APl": 0.2}
    many = Comparison.load([write_run(tmp_path / "b", results)])
    assert texts(tables.overall_table(many)) == [["MEC", "40.00", "20.00", "10.00", "20.00"]]


def test_undefined_scores_are_dashes(tmp_path):
    results = make_results("medoe", 3)
    results.predictions["medoe"] = Prediction({"mIoU": None}, {n: {"mIoU": None} for n in results.groups})
    bare = Comparison.load([write_run(tmp_path / "a", results)])
    assert set(texts(tables.group_tables(bare)[0])[0][1:]) == {"–"}


def test_metrics_that_other_ways_to_predict_lack_stand_apart_from_those_that_all_have(comparison):
    own = comparison.method.prediction
    own.groups = {name: {**of, "boundary_mIoU": 0.5} for name, of in own.groups.items()}
    comparison = Comparison(comparison.runs)
    *first, last = tables.group_tables(comparison)
    assert not any("–" in row for table in (*first, last) for row in texts(table))
    assert {band for band, _ in last.columns} == {"", "boundary_mIoU"} and len(last.rows) == 1
    assert "boundary_mIoU" not in {band for band, _ in tables.expert_table(comparison).columns}


def test_groups_of_which_no_class_is_scored_have_no_column(tmp_path):
    results = make_detection_results("mec")
    own = results.predictions["mec"]
    own.groups["rare"] = dict.fromkeys(own.groups["rare"])
    own.per_class["AP"] = [None if c in results.groups["rare"] else 0.1 for c in range(len(results.class_names))]
    own.per_class["AP"][results.groups["common"][0]] = None
    table = tables.group_tables(Comparison.load([write_run(tmp_path / "a", results)]))[0]
    sizes = [len(results.groups[name]) for name in ("rare", "common")]
    assert ("AP", "rare") not in table.columns and ("AP", "common") in table.columns
    assert f"rare: {sizes[0]} classes, common: {sizes[1] - 1} of {sizes[1]} classes" in table.caption


def test_formats():
    assert [cells.counted(n, "class") for n in (0, 1, 2)] == ["0 classes", "1 class", "2 classes"]
    assert cells.percent(0.12345) == "12.35"
    assert cells.percent(None) == cells.percent(float("nan")) == "–"
    assert cells.signed(-0.0123) == "−1.23"
    assert cells.signed(0.00001) == cells.signed(-0.00001) == "±0.00"
    assert cells.signed(float("nan")) == ""
    assert [cells.tone(gain) for gain in (0.001, -0.001, 0.00004, float("nan"))] == ["good", "bad", "muted", "muted"]


def test_csv_holds_every_value(comparison):
    rows = list(csv.DictReader(io.StringIO(class_csv(comparison))))
    assert len(rows) == 80
    assert rows[4]["class"] == comparison.class_names[4]
    assert int(rows[4]["pixels"]) == comparison.frequency.pixels[4]
    for entry in comparison.entries:
        values = [row[f"{entry.label} Acc"] for row in rows]
        assert [float(v) if v else None for v in values] == entry.prediction.per_class["Acc"]
    assert class_csv(comparison).count("\n") == 81


def test_groups_without_classes_are_not_shown(tmp_path):
    results = make_results("medoe", 20, experts=2)
    results.groups["none"] = []
    for prediction in results.predictions.values():
        prediction.groups["none"] = dict.fromkeys(("mIoU", "mAcc"))
        errors = prediction.extra["fp_fn_by_group"]
        errors["groups"]["none"] = {"pixels": 0, "FP": 0, "FN": 0, "FN_from_mAcc": None}
    shown = Comparison.load([write_run(tmp_path / "a", results)])
    for table in (*tables.group_tables(shown), tables.expert_table(shown), tables.group_error_table(shown)):
        assert "none" not in {name for _, name in table.columns} and "none" not in table.caption
