import json
from pathlib import Path

import numpy as np
import pytest

from longtail.errors import ConfigError, DataError
from longtail.frequency.counts import ClassFrequency
from longtail.metrics.results import Results
from longtail.metrics.score_detections import score_detections


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    annotations = {
        "images": [{"id": 1, "height": 50, "width": 50}],
        "categories": [{"id": 5, "name": "eel"}, {"id": 3, "name": "crab"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 1, 20, 20], "area": 400},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [5, 5, 30, 30], "area": 900},
        ],
    }
    detections = [{"image_id": 1, "category_id": 5, "bbox": [1, 1, 20, 20], "score": 0.3}]
    paths = tmp_path / "val.json", tmp_path / "mine.json"
    for path, content in zip(paths, (annotations, detections), strict=True):
        path.write_text(json.dumps(content))
    return paths


def test_a_file_without_annotations_is_no_truth(files: tuple[Path, Path]) -> None:
    content = json.loads(files[0].read_text())
    for annotations in ({}, {"annotations": []}):
        files[0].write_text(json.dumps({**{k: v for k, v in content.items() if k != "annotations"}, **annotations}))
        with pytest.raises(DataError, match=r"val\.json has no annotations to score"):
            score_detections(*files)


def test_scores_a_file(files: tuple[Path, Path], tmp_path: Path) -> None:
    results = score_detections(*files)
    assert results.class_names == ["crab", "eel"] and results.method == "mine"
    scores = results.predictions["mine"]
    assert scores.per_class["AP"] == pytest.approx([0.0, 1.0]) and scores.overall["AP"] == pytest.approx(0.5)
    assert "mask_AP" not in scores.overall
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json").predictions["mine"].overall["AP"] == pytest.approx(0.5)


def test_groups_from_the_training_counts(files: tuple[Path, Path]) -> None:
    frequency = ClassFrequency(("crab", "eel"), np.array([200, 3]))
    results = score_detections(*files, frequency=frequency)
    assert results.settings["groups_from"] == "training images"
    assert score_detections(*files).settings["groups_from"] == ""  # neither letters nor counts
    assert results.groups == {"rare": [1], "common": [], "frequent": [0]}
    assert results.predictions["mine"].groups["rare"]["AP"] == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="counts 1 classes"):
        score_detections(*files, frequency=ClassFrequency(("crab",), np.array([200])))


def test_several_files_side_by_side(files: tuple[Path, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    results = score_detections(files[0], {"mec": files[1], "stage_1": empty}, groups={"a": [0], "b": [1]})
    assert list(results.predictions) == ["mec", "stage_1"] and results.method == "mec"
    assert results.predictions["stage_1"].overall["AP"] == 0.0


def test_lvis_sample(real_data: Path) -> None:
    folder = real_data / "lvis_sample"
    if not folder.exists():
        pytest.skip(f"{folder} is absent")
    results = score_detections(folder / "lvis_val_100.json", folder / "detections.json")
    assert results.settings["federated"] and results.settings["iou_types"] == ["bbox", "segm"]
    scores = results.predictions["detections"]
    assert scores.groups["common"]["AP"] == pytest.approx(0.3488413887, abs=1e-9)
    assert scores.overall["mask_AP_pool"] < scores.overall["mask_AP"]
    assert results.frequency is None and any("not of the training split" in note for note in results.data["notes"])


def test_training_counts_are_matched_by_name(files: tuple[Path, Path]) -> None:
    """A file in another order must not turn rare and frequent round."""
    turned = ClassFrequency(("eel", "crab"), np.array([3, 200]), instances=np.array([4, 900]))
    results = score_detections(*files, frequency=turned)
    assert results.groups == {"rare": [1], "common": [], "frequent": [0]}
    assert results.frequency is not None and results.frequency["images"] == [200, 3]
    results = score_detections(*files, frequency=turned, edges=(10,))
    assert results.groups == {"group_1": [1], "group_2": [0]}
    assert results.settings["groups_from"] == "training instances"
    with pytest.raises(ConfigError, match="counted only: 'squid', only of the annotation file: 'crab'"):
        score_detections(*files, frequency=ClassFrequency(("eel", "squid"), np.array([3, 200])))
    with pytest.raises(ConfigError, match="edges without a frequency"):
        score_detections(*files, edges=(10,))
