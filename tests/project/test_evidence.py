"""The scripts of the evidence: runs that the engine takes, and tables of what was kept of them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from longtail.settings import from_dict
from longtail.training.detection_config import DetectionConfig
from longtail.training.segmentation_config import SegmentationConfig
from support.fake_runs import make_results

ROOT = Path(__file__).parents[2]
KINDS = {"segmentation": SegmentationConfig, "detection": DetectionConfig}


@pytest.fixture
def scripts(monkeypatch, tmp_path):
    """The modules of the scripts, which keep results in a folder of the test."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    names = ("pages", "evidence_list", "evidence_runs", "evidence_readings", "evidence_tables", "evidence")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    modules = {name: __import__(name) for name in names}
    for name in ("evidence_runs", "evidence_tables"):
        monkeypatch.setattr(modules[name], "KEPT", tmp_path / "kept")
    yield modules
    for name in names:
        sys.modules.pop(name, None)


def test_every_run_has_settings_that_the_engine_takes(scripts):
    found = [run for _, runs in scripts["evidence_list"].EVIDENCE.values() for run in runs]
    assert len({(run.dataset, run.name) for run in found}) == len(found) > 30
    names = {(run.dataset, run.name) for run in found}
    for run in found:
        settings = run.settings(seed=7)
        config = from_dict(KINDS[settings["task"]], settings)
        assert config.seed == 7 and config.logging.val_interval == 0
        assert run.start_from is None or (run.dataset, run.start_from) in names


def test_mapped_classes_are_named_once(scripts):
    for classes in scripts["evidence_list"].MAPPED.values():
        ids = [i for members in classes.values() for i in members]
        assert len(set(ids)) == len(ids) and set(ids) <= set(range(1, 51))
        assert next(iter(classes.values())) == ()  # what is named nowhere
    assert sum(map(len, scripts["evidence_list"].MAPPED["ccp51eight"].values())) == 50


def test_what_is_kept_has_no_paths_and_no_maps(scripts, tmp_path):
    results = make_results("baseline")
    results.settings = {"data": {"dataset": "/somewhere/of/mine/ccp51"}}
    folder = tmp_path / "runs" / "ccp51" / "baseline-seed3"
    folder.mkdir(parents=True)
    results.save(folder / "results.json")
    scripts["evidence_runs"].collect(tmp_path / "runs")
    text = (tmp_path / "kept" / "ccp51" / "baseline-seed3" / "results.json").read_text()
    assert "somewhere" not in text
    record = json.loads(text)
    assert record["settings"]["data"]["dataset"] == "ccp51"
    assert all(prediction["extra"] == {} for prediction in record["predictions"].values())
    assert record["predictions"]["baseline"]["per_class"]["IoU"]


def test_ap_fixed_of_limited_detections_is_not_kept(scripts):
    scores = {"AP": 0.3, "AP_fixed": 0.3, "mask_AP_fixed": 0.2}
    prediction = {"overall": dict(scores), "groups": {"rare": dict(scores)}, "per_class": {}, "extra": {}}
    kept = scripts["evidence_runs"].trimmed({"method": "mec", "predictions": {"mec": prediction}})
    assert kept["predictions"]["mec"]["overall"] == kept["predictions"]["mec"]["groups"]["rare"] == {"AP": 0.3}


def test_ap_fixed_counts_what_the_limit_cuts(scripts, tmp_path, monkeypatch):
    """An object that is the second best detection of its image is found by AP-fixed alone where one is kept."""
    import torch

    from longtail.detection.method import StageOutputs
    from longtail.detection.recording import StageRecorder
    from longtail.models.detector import Detector

    readings = scripts["evidence_readings"]
    detector = {"name": "cascade", "backbone": "torchvision/mobilenet_v2", "ious": [0.5], "masks": "none"}
    options = {"head_channels": 8, "postprocess": {"max_detections": 1, "score_threshold": 0.01}}
    names, counts = ["a", "b", "c"], [3, 20, 200]
    groups = {"names": ["rare", "common", "frequent"], "members": [[0], [1], [2]]}
    frequency = {"class_names": names, "images": counts, "pixels": None, "instances": counts, "num_images": 300}
    made = Detector(
        {**detector, **options},
        {"name": "baseline"},
        {"names": names, "palette": [[0, 0, 0]] * 3},
        groups,
        frequency,
    )
    folder = tmp_path / "data" / "x-seed0"
    with StageRecorder(folder / "stages") as recorder:
        made.save_description(folder / "stages")
        for image, row in ((1, [2.0, 3.0, -9.0, 0.0]), (2, [0.0, 0.0, 0.0, 9.0])):  # the second is empty
            box = torch.tensor([[10.0, 10.0, 50.0, 50.0]])
            recorder.add([image], [StageOutputs(torch.tensor([[row]]), box, (100, 100))], [(100, 100)])
    annotations = tmp_path / "data" / "annotations" / "val.json"
    annotations.parent.mkdir()
    record = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    images = [{"id": image, "width": 100, "height": 100} for image in (1, 2)]
    annotations.write_text(json.dumps({"images": images, "annotations": [record], "categories": categories}))
    monkeypatch.setattr(readings, "DATA", tmp_path)
    plain = {"average of logits": {"name": "average", "average": "logits"}}
    monkeypatch.setattr(readings, "readings", lambda **_: plain)
    monkeypatch.setattr(readings, "FIXED", tuple(plain))
    readings.read(folder)
    found = json.loads((folder / "readings.json").read_text())["average of logits"]["all"]
    assert found["r"] == 0.0  # class b is surer, and alone is kept
    assert found["r_fixed"] == 1.0


def keep(
    folder: Path, seed: int, values: dict[str, float], halves: dict[str, tuple[float, float]] | None = None
) -> None:
    """Predictions of one metric, and readings on two halves."""
    target = folder / f"x-seed{seed}"
    target.mkdir(parents=True)
    predictions = {
        name: {"overall": {"mIoU": value}, "groups": {"tail": {"mIoU": None}}} for name, value in values.items()
    }
    (target / "results.json").write_text(json.dumps({"predictions": predictions}))
    if halves:
        read = {
            name: {
                "all": {"AP": sum(both) / 2, "r": None},
                "half 1": {"AP": both[0], "r": both[0]},
                "half 2": {"AP": both[1], "r": both[1]},
            }
            for name, both in halves.items()
        }
        (target / "readings.json").write_text(json.dumps(read))


def test_table_by_hand(scripts, tmp_path):
    for seed, (base, own) in enumerate([(0.10, 0.12), (0.20, 0.23), (0.30, 0.34)]):
        keep(tmp_path / "kept" / "d", seed, {"baseline": base, "medoe": own})
    tables = scripts["evidence_tables"]
    rows = [
        tables.Row("base", "d/x", "baseline"),
        tables.Row("ours", "d/x", "medoe"),
        tables.Row("none", "d/y", "medoe"),
    ]
    lines = tables.table(rows, {"all": ("mIoU", None), "tail": ("mIoU", "tail")}, rows[0]).splitlines()
    assert lines[2] == "| base | 3 | 20.0 ± 10.0 | – |"
    # differences 2, 3, 4: t = 3 / (1 / √3) = 5.196 with two degrees of freedom, p = 0.035
    assert lines[3] == "| ours | 3 | 23.0 ± 11.0<br>+3.0, p\u00a0=\u00a00.04 | – |"
    assert len(lines) == 4  # what was not run is left out
    assert tables.table(rows[2:], {"all": ("mIoU", None)}) == tables.NOTHING


def test_gap_to_the_oracle_by_hand(scripts, tmp_path):
    keep(tmp_path / "kept" / "d", 0, {"baseline": 0.2, "medoe": 0.3, "oracle": 0.6})
    tables = scripts["evidence_tables"]
    rows = [tables.Row(name, "d/x", name) for name in ("medoe", "baseline", "oracle")]
    assert tables.oracle_gap(rows[:1], rows[1], rows[2]).splitlines()[2].startswith("| medoe | 1 | 25.0 |")


def test_tau_is_chosen_on_one_half_and_scored_on_the_other(scripts, tmp_path, monkeypatch):
    tables = scripts["evidence_tables"]
    monkeypatch.setattr(tables, "FORMS", {"dynamic": {}})
    monkeypatch.setattr(tables, "TAUS", (1, 5))
    halves = {"average of logits": (0.1, 0.1), "dynamic, τ = 1": (0.4, 0.2), "dynamic, τ = 5": (0.3, 0.25)}
    keep(tmp_path / "kept" / "d", 0, {}, halves)
    # half 1 chooses τ = 1, which has 20 on half 2; half 2 chooses τ = 5, which has 30 on half 1
    line = tables.chosen_taus({"plain": "d/x"}).splitlines()[2]
    assert line == "| plain: dynamic | 1 | 1, 5 | 25.0 | 25.0 | +15.00 | +15.00 |"


def test_readings_are_ensembles_of_stages(scripts):
    from longtail.frequency import CategoryGroups, ClassFrequency
    from longtail.mec.model import named_ensembles

    groups = CategoryGroups.explicit({"rare": [0], "common": [1], "frequent": [2]})
    counts = np.array([3, 20, 200])
    frequency = ClassFrequency(("a", "b", "c"), images=counts, instances=counts)
    found = scripts["evidence_readings"].readings()
    assert len(named_ensembles(found, groups, frequency=frequency)) == len(found) > 40
    assert set(scripts["evidence_readings"].FIXED) <= set(found)
    forms = scripts["evidence_readings"].FORMS
    assert {f"{form}, τ = {tau:g}" for form in forms for tau in scripts["evidence_readings"].TAUS} <= set(found)


def test_every_block_of_the_pages_is_known_and_written(scripts):
    evidence, pages = scripts["evidence"], scripts["pages"]
    shown = {name for page in evidence.PAGES for name in pages.blocks_of(page)}
    assert {name for name in evidence.BLOCKS if name[0] in "abc"} <= shown
    for name, block in evidence.BLOCKS.items():
        assert block() == scripts["evidence_tables"].NOTHING, name  # nothing is kept in this test's folder
