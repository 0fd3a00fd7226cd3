import pytest

from longtail.cli import demo_runs, main
from longtail.metrics.results import Results

SMALL = {"dataset": "longtail-scenes", "size": [32, 32], "num_images": 8}


@pytest.fixture(autouse=True)
def _small(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGTAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setitem(demo_runs.SEGMENTATION, "data", SMALL)
    detection = {**demo_runs.DETECTION["data"], **SMALL, "groups": {"edges": [2, 6]}}
    monkeypatch.setitem(demo_runs.DETECTION, "data", detection)


def test_one_half_then_both_in_one_report(tmp_path, capsys):
    words = ["demo", "--out", str(tmp_path), "--seed", "3"]
    words += ["--iterations", "2", "--ensemble_iterations", "1", "--detection_iterations", "2"]
    assert main([*words, "--task", "detection"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("seed 3", "Baseline", "MEC", "report.html", "not evidence"))
    assert "segmentation-summary" not in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "segmentation").exists()
    mec = Results.load(tmp_path / "detection/mec/results.json")
    assert {"mec", "dynamic_unaligned", "average_aligned", "sparse", "average", "stage_3"} <= set(mec.predictions)
    assert mec.seed == 3 and {"AP", "mask_AP"} <= set(mec.own.groups["rare"])
    baseline = Results.load(tmp_path / "detection/baseline/results.json")
    assert list(baseline.predictions) == ["baseline", "dynamic_aligned", "stage_1", "stage_2", "stage_3"]

    assert main(words) == 0
    shown = capsys.readouterr().out
    assert shown.count("already trained") == 2  # finished runs are not run again
    assert all(word in shown for word in ("MEDOE", "Oracle", "MEC"))
    page = (tmp_path / "report.html").read_text()
    assert "segmentation-summary" in page and "detection-summary" in page


def test_both_methods_have_one_budget():
    baseline, mec = demo_runs.detection_runs(7, seed=0).values()
    assert baseline.iterations == mec.iterations == {"train": 7}
    assert (baseline.data, baseline.model, baseline.optimiser) == (mec.data, mec.model, mec.optimiser)
