import json

import numpy as np
import pytest
import torch
from PIL import Image

from longtail.errors import CheckpointError, ConfigError
from longtail.models.detector import Detector
from longtail.models.pretrained import saved_task
from longtail.models.segmenter import Segmenter
from support.tiny_detection import detector_arguments


def build(**method) -> Detector:
    torch.manual_seed(0)
    detector = Detector(**detector_arguments(**method))
    for stage in detector.method.heads.stages:
        torch.nn.init.normal_(stage.classifier.weight, std=2.0)
    return detector


@pytest.fixture(scope="module")
def detector() -> Detector:
    return build()


def picture(h: int = 37, w: int = 50) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)


def test_all_kinds_of_pictures_give_the_same_objects_in_their_pixels(detector, tmp_path):
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / "p.png")
    found = detector.predict(pixels)
    assert len(found) and found.size == (37, 50) and found.masks[0]["size"] == [37, 50]
    assert found.boxes[:, 2].max() <= 50 and found.boxes[:, 3].max() <= 37
    assert detector.preprocess(torch.from_numpy(pixels).movedim(-1, 0)).shape == (3, 48, 65)
    for same in (Image.fromarray(pixels), torch.from_numpy(pixels).movedim(-1, 0), tmp_path / "p.png"):
        again = detector.predict(same)
        assert torch.equal(again.boxes, found.boxes) and torch.equal(again.scores, found.scores)
    views = detector.predict(pixels, scales=(1.0, 1.5), flip=True)
    assert len(views) and views.size == (37, 50)


def test_pictures_that_are_none(detector):
    with pytest.raises(ConfigError, match=r"uint8 of shape \(0, 5, 3\)"):
        detector.predict(np.zeros((0, 5, 3), np.uint8))
    turned = picture()[..., ::-1]  # BGR as OpenCV has it, made RGB
    assert torch.equal(detector.predict(turned).boxes, detector.predict(turned.copy()).boxes)


@pytest.mark.parametrize("form", ["run", "hub"])
def test_round_trip(tmp_path, form):
    detector = build(overall_weight=0.4, ensemble={"name": "dynamic", "align": False}, comparisons={"thin": "sparse"})
    save = detector.save_run if form == "run" else detector.save_pretrained
    save(tmp_path)
    assert saved_task(tmp_path) == "detection"
    loaded = Detector.from_pretrained(tmp_path)
    assert not loaded.training and loaded.settings == detector.settings and loaded.groups == detector.groups
    assert loaded.category_ids.tolist() == [3, 5, 7, 11, 13, 17]
    assert list(loaded.method.readouts()) == ["mec", "thin", "average", "stage_1", "stage_2", "stage_3"]
    assert loaded.fingerprint() == detector.fingerprint() != build().fingerprint()
    one, other = loaded.predict(picture()), detector.predict(picture())
    assert torch.equal(one.boxes, other.boxes) and torch.equal(one.scores, other.scores) and one.masks == other.masks


def test_file_of_initial_weights_is_not_needed_again(detector, tmp_path):
    torch.save(detector.method.backbone.extractor.state_dict(), tmp_path / "backbone.pth")
    arguments = detector_arguments()
    arguments["model"]["backbone"]["weights"] = str(tmp_path / "backbone.pth")
    made = Detector(**arguments)
    key = "features.0.0.weight"
    assert torch.equal(
        made.method.backbone.extractor.state_dict()[key], detector.method.backbone.extractor.state_dict()[key]
    )
    made.save_run(tmp_path / "run")
    (tmp_path / "backbone.pth").unlink()
    assert len(Detector.from_pretrained(tmp_path / "run").predict(picture())) == len(made.predict(picture()))


def test_own_network(detector, tmp_path):
    arguments = {**detector_arguments(), "model": {"name": "mine"}}
    Detector(**arguments, network=detector.method).save_run(tmp_path)
    loaded = Detector.from_pretrained(tmp_path, network=build().method)
    assert torch.equal(loaded.predict(picture()).boxes, detector.predict(picture()).boxes)
    with pytest.raises(ConfigError, match="mine"):
        Detector.from_pretrained(tmp_path)


def test_what_is_foreign_or_broken_is_refused(detector, tmp_path):
    detector.save_run(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for setting in (
        {"loss": "os.system"},
        {"loss": {"name": "class_balanced", "loss": "os.system"}},
        {"ensemble": "os.system"},
        {"comparisons": {"other": {"name": "norcal", "inner": "os:system"}}},
    ):
        method = {**config["method"], **setting}
        (tmp_path / "config.json").write_text(json.dumps({**config, "method": method}))
        with pytest.raises(CheckpointError, match=r"asks to run os.system"):
            Detector.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "task": "segmentation"}))
    with pytest.raises(CheckpointError, match=r"is a segmentation model.*\n.*longtail\.models\.segmenter\.Segmenter"):
        Detector.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="no folder"):
        saved_task(tmp_path / "nowhere")
    for load in (saved_task, Detector.from_pretrained):
        with pytest.raises(CheckpointError, match=r"best\.safetensors is a file.*\n.*give the run folder"):
            load(tmp_path / "best.safetensors")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json: the content is \[\], not an object"):
        saved_task(tmp_path)


def test_a_detector_is_no_segmenter(detector, tmp_path):
    detector.save_run(tmp_path)
    for load in (Segmenter.from_pretrained, Segmenter.from_description):
        with pytest.raises(CheckpointError, match=r"is a detection model.*\n.*longtail\.models\.detector\.Detector"):
            load(tmp_path)
    with pytest.raises(ConfigError, match="lambda"):
        Detector(**detector_arguments(overall_weight=2))
    with pytest.raises(ConfigError, match="tempo"):
        Detector(**detector_arguments(tempo=2))


def test_pictures_of_bands(tmp_path):
    arguments = detector_arguments()
    sides = {name: value for name, value in arguments.get("input", {}).items() if name not in ("mean", "std")}
    arguments["input"] = {**sides, "bands": 5, "value_range": [0, 1000]}
    torch.manual_seed(0)
    detector = Detector(**arguments).eval()
    values = np.random.default_rng(0).integers(0, 1000, (37, 50, 5)).astype(np.uint16)
    np.save(tmp_path / "a.npy", values)
    found = detector.predict(tmp_path / "a.npy")
    same = detector.predict((values / 1000).astype(np.float32))
    assert found.size == (37, 50) and torch.allclose(found.scores, same.scores, atol=1e-5)
    detector.save_pretrained(tmp_path / "saved")
    assert Detector.from_pretrained(tmp_path / "saved").photos == detector.photos
    with pytest.raises(ConfigError, match=r"\(37, 50, 3\)\n.*\(h, w, 5\)"):
        detector.predict(picture())
