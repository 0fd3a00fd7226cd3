from dataclasses import replace

from longtail.reports.comparison import Comparison, Run
from longtail.reports.dial import dial_curves, dial_points
from support.fake_runs import make_results


def read_at(results, taus):
    own = results.own
    shifted = {
        f"tau_{tau:g}": replace(own, overall={**own.overall, "mIoU": 0.5 - 0.1 * tau, "mAcc": 0.6 + 0.1 * tau})
        for tau in taus
    }
    results.predictions = {**results.predictions, **shifted}
    return results


def test_points_are_sorted_by_tau(tmp_path):
    run = Run("MEDOE", read_at(make_results("medoe"), [0.5, 0, 1]), tmp_path / "results.json")
    found = [tuple(round(value, 6) for value in point) for point in dial_points(run)]
    assert found == [(0.0, 50.0, 60.0), (0.5, 45.0, 65.0), (1.0, 40.0, 70.0)]


def test_runs_with_one_reading_draw_no_curve(tmp_path):
    plain = Run("Baseline", make_results("baseline"), tmp_path / "a.json")
    assert dial_curves(Comparison([plain])) is None
    read = Run("MEDOE", read_at(make_results("medoe"), [0, 0.3]), tmp_path / "b.json")
    drawn = dial_curves(Comparison([plain, read]))
    assert drawn is not None and "MEDOE" in drawn and "Baseline" in drawn and "0.3" in drawn
