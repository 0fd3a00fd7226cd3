import json

import numpy as np
import pytest
import torch

from longtail.datasets.coco import Coco
from longtail.detection.recording import read_recording
from longtail.errors import CheckpointError, ConfigError, DataError
from longtail.models.detector import Detector
from longtail.models.score_stages import recorded_detector, score_stages, stage_readouts
from longtail.training.evaluate_detection import evaluate_detection
from support.tiny_detection import detector_arguments, write_coco


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A detector's recording of five images of three classes, and what the evaluation itself found."""
    folder = tmp_path_factory.mktemp("stages")
    write_coco(folder, "val")
    torch.manual_seed(0)
    arguments = detector_arguments()
    names = ["class 2", "class 3", "class 20"]
    arguments["classes"] = {"names": names, "palette": [[9, 9, 9]] * 3, "ids": [2, 3, 20]}
    arguments["groups"] = {"names": ["rare", "common", "frequent"], "members": [[1], [0], [2]]}
    arguments["frequency"] = {"class_names": names, "images": [9, 9, 9], "instances": [20, 2, 200], "num_images": 30}
    detector = Detector(**arguments).eval()
    for stage in detector.method.heads.stages:
        torch.nn.init.normal_(stage.classifier.weight, std=2.0)
    results = evaluate_detection(detector, Coco(folder, "val"), recording=folder / "rec", iou_types=("bbox",))
    return folder / "rec", folder / "annotations/val.json", results


def test_the_same_scores_as_the_evaluation_itself(recorded):
    recording, annotations, results = recorded
    detector, method = recorded_detector(recording)
    readouts = stage_readouts(detector)
    assert list(readouts) == [*results.predictions, "half_adjusted"] and "stage_3" in readouts
    again = score_stages(
        recording, annotations, readouts, groups=detector.groups, postprocess=method.config.postprocess
    )
    assert again.method == "mec" and again.groups == results.groups and again.data["images"] == 5
    for name, prediction in results.predictions.items():
        assert again.predictions[name].extra["detections"] == prediction.extra["detections"] > 0
        for metric, value in prediction.overall.items():
            assert again.predictions[name].overall[metric] == pytest.approx(value, nan_ok=True, abs=1e-9), metric


def test_other_ensembles_by_name(recorded):
    recording, annotations, _ = recorded
    detector, method = recorded_detector(recording)
    specs = {
        "again": "dynamic",
        "warm": {"name": "dynamic", "temperature": 100, "align": False},
        "own": {"name": "sparse", "background": "exempt"},
    }
    readouts = stage_readouts(detector, specs)
    assert list(readouts) == ["mec", "again", "warm", "own"]
    results = score_stages(recording, annotations, readouts, postprocess=method.config.postprocess, fixed=False)
    own, again = results.predictions["mec"], results.predictions["again"]
    np.testing.assert_equal(own.overall, again.overall)  # NaN equals NaN here
    assert own.extra["calibration"] == again.extra["calibration"]
    assert "errors" in own.extra and "errors" not in again.extra and list(results.images) == ["mec"]
    assert results.predictions["warm"].extra["calibration"] != own.extra["calibration"]
    assert list(stage_readouts(detector, specs, ["stage_2"])) == ["stage_2", "again", "warm", "own"]


def test_calibrated_ensembles_by_name(recorded):
    recording, annotations, _ = recorded
    detector, method = recorded_detector(recording)
    specs = {
        "unchanged": {"name": "norcal", "gamma": 0, "inner": "dynamic"},
        "adjusted": {"name": "logit_adjustment"},
        "normalized": {"name": "logn", "recording": str(recording), "inner": "sparse"},
    }
    readouts = stage_readouts(detector, specs)
    results = score_stages(recording, annotations, readouts, postprocess=method.config.postprocess, fixed=False)
    assert results.predictions["unchanged"].overall == results.own.overall
    torch.testing.assert_close(readouts["adjusted"].divisors, torch.tensor([20.0, 2, 200]) / 222)
    normal = readouts["normalized"]
    logits = torch.cat([image.outputs.logits for image in read_recording(recording)], dim=1)
    found, variance = normal.normalized(logits)[:, :, :3], logits[:, :, :3].var(1, correction=0)
    torch.testing.assert_close(found.var(1, correction=0), variance / (variance + 1e-5), rtol=1e-3, atol=1e-3)


def test_images_that_were_not_recorded_are_left_out(recorded, tmp_path):
    recording, annotations, results = recorded
    content = json.loads(annotations.read_text())
    extra = {"id": 999, "height": 40, "width": 40, "file_name": "more.png"}
    content["images"].append(extra)
    content["annotations"].append({**content["annotations"][0], "id": 10**6, "image_id": 999})
    (tmp_path / "more.json").write_text(json.dumps(content))
    detector, method = recorded_detector(recording)
    readouts = stage_readouts(detector, None, ["mec"])
    again = score_stages(recording, tmp_path / "more.json", readouts, postprocess=method.config.postprocess)
    assert again.own.overall["AR"] == pytest.approx(results.own.overall["AR"]) and again.data["images"] == 5


def test_refusals(recorded, tmp_path):
    recording, annotations, _ = recorded
    detector, _ = recorded_detector(recording)
    with pytest.raises(ConfigError, match="readout is 'stage_9'"):
        stage_readouts(detector, None, ["stage_9"])
    with pytest.raises(ConfigError, match="has the name of a readout"):
        stage_readouts(detector, {"mec": "average"})
    with pytest.raises(ConfigError, match="no ensemble 'mean'"):
        stage_readouts(detector, {"a": "mean"})
    with pytest.raises(ConfigError, match="no ensemble to score"):
        score_stages(recording, annotations, {})
    with pytest.raises(CheckpointError, match=r"cannot read a configuration .*config\.json"):
        recorded_detector(tmp_path)
    readouts = stage_readouts(detector)
    with pytest.raises(DataError, match="3 classes"):
        score_stages(recording, annotations, readouts, class_names=["class 2", "class 3", "other"])
    content = json.loads(annotations.read_text())
    content["images"] = [{**i, "id": i["id"] + 50} for i in content["images"]]
    content["annotations"] = []
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="recorded images are not in"):
        score_stages(recording, tmp_path / "other.json", readouts)
