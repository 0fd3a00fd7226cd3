import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from longtail.datasets.coco import Coco
from longtail.errors import ConfigError, DataError
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.read_detections import read_detections
from longtail.models.detector import Detector
from longtail.training.predict import find_images
from longtail.training.predict_detection import image_ids, predict_detection
from support.tiny_detection import SeesTheTruth, detector_arguments, write_coco


@pytest.fixture
def folder(tmp_path):
    write_coco(tmp_path, "val", count=3)
    return tmp_path


@pytest.fixture
def detector(folder) -> Detector:
    """Sees the truth of the pictures in ``folder``, whose three categories are the first of its six."""
    arguments = detector_arguments()
    arguments["classes"]["ids"] = [2, 3, 20, 21, 22, 23]
    return Detector(**{**arguments, "model": {"name": "mine"}}, network=SeesTheTruth(Coco(folder, "val")))


def test_results_are_scored_as_they_are_and_pictures_show_them(detector, folder):
    images, out = find_images([folder / "images/val"]), folder / "out"
    annotations = folder / "annotations/val.json"
    done = predict_detection(detector, images, out, annotations=annotations)
    assert (done.written, done.skipped, done.failed) == (3, 0, [])
    truth = DetectionTruth(annotations)
    found = read_detections(out / "detections.json", truth)
    assert len(found) == 6 and set(found.image_ids) == {100, 102}
    first = json.loads((out / "detections/picture 0.json").read_text())
    content = json.loads(annotations.read_text())
    expected = [a for a in content["annotations"] if a["image_id"] == 100]
    assert [r["category_id"] for r in first] == [a["category_id"] for a in expected]
    assert np.allclose([r["bbox"] for r in first], [a["bbox"] for a in expected], atol=1e-4)
    assert [i["id"] for i in json.loads((out / "images.json").read_text())] == [100, 101, 102]
    drawn = np.asarray(Image.open(out / "pictures/picture 0.jpg"), dtype=int)
    assert drawn.shape == (40, 60, 3) and drawn.max() > 60  # the picture is black, its boxes are not


def test_a_stopped_command_goes_on_and_a_broken_image_stops_no_other(detector, folder):
    (folder / "images/val/picture 2.png").write_bytes(b"no picture")
    images, out = find_images([folder / "images/val"]), folder / "out"
    done = predict_detection(detector, images, out)
    assert (done.written, done.skipped, len(done.failed)) == (2, 0, 1)
    assert "picture 2" in done.failed[0].problem
    listed = json.loads((out / "images.json").read_text())
    assert [Path(i["file_name"]).stem for i in listed] == ["picture 0", "picture 1"]
    (out / "detections/picture 0.json").unlink()
    assert predict_detection(detector, images, out).written == 1
    assert len(json.loads((out / "detections.json").read_text())) == 3
    assert predict_detection(detector, images, out, overwrite=True).written == 2


def test_ids_are_those_of_the_images_of_this_command(detector, folder):
    photos, out = folder / "images/val", folder / "out"
    (photos / "picture 0.png").rename(folder / "later.png")
    predict_detection(detector, find_images([photos]), out)
    assert "image_id" not in json.loads((out / "detections/picture 2.json").read_text())[0]
    (folder / "later.png").rename(photos / "picture 0.png")
    images = find_images([photos])
    assert predict_detection(detector, images, out).skipped == 2
    numbers = {Path(i["file_name"]).stem: i["id"] for i in json.loads((out / "images.json").read_text())}
    records = json.loads((out / "detections.json").read_text())
    assert numbers == {"picture 0": 1, "picture 1": 2, "picture 2": 3}
    assert [r["image_id"] for r in records] == [1, 1, 1, 3, 3, 3]
    assert predict_detection(detector, images, out, annotations=folder / "annotations/val.json").written == 0
    assert {r["image_id"] for r in json.loads((out / "detections.json").read_text())} == {100, 102}


def test_results_of_two_models_are_not_mixed(detector, folder):
    images, out = find_images([folder / "images/val"]), folder / "out"
    predict_detection(detector, images, out)
    with pytest.raises(ConfigError, match=r"options: threshold 0\.3 -> 0\.5\n"):
        predict_detection(detector, images, out, threshold=0.5)
    for options in ({"flip": True}, {"scales": (1.0, 2.0)}):
        with pytest.raises(ConfigError, match=f"options: {next(iter(options))} "):
            predict_detection(detector, images, out, **options)
    notes = json.loads((out / "made_by.json").read_text())
    (out / "made_by.json").write_text(json.dumps({**notes, "labels": {"model": "a segmenter's"}}))
    assert predict_detection(detector, images, out).skipped == 3  # beside those of another task
    before = detector.fingerprint()
    detector.method.weight.data += 1
    assert detector.fingerprint() != before
    with pytest.raises(ConfigError, match=r"model mine/mec \w{16} -> mine/mec \w{16}\n"):
        predict_detection(detector, images, out)
    assert predict_detection(detector, images, out, overwrite=True).written == 3


def test_ids(folder):
    images = find_images([folder / "images/val"])
    assert image_ids(images) == {"picture 0": 1, "picture 1": 2, "picture 2": 3}
    numbered = {"b": folder / "000042.jpg", "a": folder / "7.jpg"}
    assert image_ids(numbered) == {"b": 42, "a": 7}
    with pytest.raises(DataError, match=r"does not list .*000042\.jpg"):
        image_ids(numbered, folder / "annotations/val.json")


def test_thresholds_are_of_pictures_alone(detector, folder):
    images, out = find_images([folder / "images/val/picture 0.png"]), folder / "out"
    predict_detection(detector, images, out, threshold=1.1)
    assert len(json.loads((out / "detections.json").read_text())) == 3
    assert torch.from_numpy(np.array(Image.open(out / "pictures/picture 0.jpg"))).max() < 10


def test_detections_below_the_threshold_of_their_class_are_left_out(detector, folder):
    images, out = find_images([folder / "images/val/picture 0.png"]), folder / "out"
    predict_detection(detector, images, out)
    categories = [record["category_id"] for record in json.loads((out / "detections.json").read_text())]
    first = detector.category_ids.tolist().index(categories[0])
    thresholds = np.zeros(len(detector.class_names))
    thresholds[first] = 1.1
    predict_detection(detector, images, folder / "cut", thresholds=thresholds)
    kept = [record["category_id"] for record in json.loads((folder / "cut/detections.json").read_text())]
    assert kept == [c for c in categories if c != categories[0]]
    thresholds[first] = np.nan  # unknown: the threshold of all classes serves
    predict_detection(detector, images, folder / "unknown", thresholds=thresholds, threshold=0.2)
    assert len(json.loads((folder / "unknown/detections.json").read_text())) == len(categories)
    with pytest.raises(ConfigError, match="thresholds"):
        predict_detection(detector, images, folder / "cut")
