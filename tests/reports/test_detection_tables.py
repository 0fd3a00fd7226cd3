from longtail.metrics.results import Prediction, Results
from longtail.reports.comparison import Comparison, Run
from longtail.reports.sections import calibration
from longtail.reports.tables import calibration_table, positives_table


def comparison(tmp_path, extra: dict) -> Comparison:
    scores = dict.fromkeys(("AP", "AP50", "mask_AP", "AP_fixed"), 0.25)
    prediction = Prediction(scores, {"rare": scores, "frequent": scores}, {n: [0.2, 0.3] for n in scores}, extra)
    results = Results("detection", "mec", ["a", "b"], {"rare": [0], "frequent": [1]}, {"mec": prediction})
    return Comparison([Run("MEC", results, tmp_path / "results.json")])


def test_scores_against_how_often_they_are_right(tmp_path):
    curves = {
        "rare": {"score": [None, 0.2, 0.8], "precision": [None, 0.5, 1.0], "count": [0, 30, 10]},
        "frequent": {"score": [None] * 3, "precision": [None] * 3, "count": [0, 0, 0]},
    }
    shown = comparison(tmp_path, {"calibration": curves})
    table = calibration_table(shown)
    # (30 x 0.2 + 10 x 0.8) / 40, (30 x 0.5 + 10) / 40, (30 x 0.3 + 10 x 0.2) / 40
    assert [cell.text for cell in table.rows[0]] == ["MEC", "rare", "40", "35.00", "62.50", "27.50"]
    assert [cell.text for cell in table.rows[1]] == ["", "frequent", "0", "–", "–", "–"]
    assert calibration(shown).name == "calibration"


def test_average_precisions_are_what_matters(tmp_path):
    shown = comparison(tmp_path, {})
    assert shown.group_metrics == shown.class_metrics == ["AP", "mask_AP", "AP_fixed"]
    assert calibration_table(shown) is None


def test_boxes_that_the_stages_learned_from(tmp_path):
    shown = comparison(tmp_path, {})
    assert positives_table(shown) is None
    shown.focus.results.training["positives"] = {
        "stage_1": {"rare": 4.0, "frequent": 10.0},
        "stage_2": {"rare": 4.5, "frequent": 9.0},
    }
    table = positives_table(shown)
    assert [cell.text for cell in table.rows[0]] == ["MEC", "stage 1", "4.00", "10.00"]
    assert [(cell.text, cell.note) for cell in table.rows[1][2:]] == [("4.50", "× 1.125"), ("9.00", "× 0.900")]
