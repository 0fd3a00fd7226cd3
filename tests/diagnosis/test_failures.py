"""Which errors are shown, how they are drawn, and their file."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from longtail.datasets.coco import Coco
from longtail.diagnosis.crops import FOUND, TRUE, as_jpeg, crop_box, draw_boxes, draw_region
from longtail.diagnosis.failure_file import Failure, load_failures, save_failures
from longtail.diagnosis.failures import object_cases, object_failures, training_cases, worst_classes
from longtail.diagnosis.label_failures import photos_named, region_failures
from longtail.diagnosis.photos import photos_in, photos_of
from longtail.errors import DataError
from longtail.metrics.detection_errors import detection_errors
from longtail.metrics.label_diagnosis import LabelDiagnosis
from longtail.metrics.label_regions import LargestRegions, wrong_regions
from metrics.test_detection_errors import found, truth_of
from support.tiny_detection import write_coco

BOX, FAR, AWAY = (0.0, 0.0, 10.0, 10.0), (100.0, 100.0, 20.0, 20.0), (60.0, 10.0, 10.0, 10.0)
TRUTH = truth_of([(1, 0, BOX, 0), (1, 1, FAR, 0), (2, 0, FAR, 0)], images=2)
ERRORS = detection_errors(TRUTH, found([(1, 1, 0.9, BOX), (1, 1, 0.8, FAR), (1, 0, 0.7, AWAY), (2, 0, 0.6, AWAY)]))


def test_cases_of_a_class_by_hand():
    cases = list(object_cases(TRUTH, ERRORS, 0))
    assert [(c.sort, c.words, c.image) for c in cases] == [
        ("false positive", "background, score 0.70", 1),
        ("false positive", "background, score 0.60", 2),
        ("confusion", "called class 1, score 0.90", 1),
        ("missed", "found by nobody", 2),
    ]
    assert cases[2].found == cases[2].true == (0, 0, 10, 10) and cases[3].true == (100, 100, 120, 120)
    (claimed,) = object_cases(TRUTH, ERRORS, 1)
    assert (claimed.sort, claimed.words) == ("confusion", "is class 0, score 0.90")
    assert worst_classes(ERRORS)[0] == 0
    assert [case.true for case in training_cases(TRUTH, 0)] == [(0, 0, 10, 10), (100, 100, 120, 120)]


def test_pictures_are_of_the_photographs_that_can_be_read(tmp_path):
    for image in (1, 2):
        Image.new("RGB", (200, 200), (10 * image, 0, 0)).save(tmp_path / f"{image}.jpg")
    photo = photos_in(tmp_path, TRUTH)
    drawn = object_failures(TRUTH, ERRORS, photo, (TRUTH, photo))
    assert [f.sort for f in drawn["class 0"]] == ["false positive"] * 2 + ["confusion", "missed"] + ["training"] * 2
    (tmp_path / "2.jpg").write_bytes(b"broken")
    fewer = object_failures(TRUTH, ERRORS, photos_in(tmp_path, TRUTH))
    assert [f.sort for f in fewer["class 0"]] == ["false positive", "confusion"]
    with pytest.raises(DataError, match="no folder"):
        photos_in(tmp_path / "absent", TRUTH)


def test_photographs_of_a_data_set_are_those_of_the_id(tmp_path):
    write_coco(tmp_path, "val", count=3)
    photo = photos_of(Coco(tmp_path, "val"))
    assert [photo(image).size for image in (100, 101, 102)] == [(60, 40), (56, 44), (52, 48)]
    assert photo(0) is None and photo(103) is None


def test_a_crop_shows_what_is_around_and_stays_inside():
    assert crop_box((0, 0, 10, 10), (200, 100)) == (0, 0, 17, 17)
    assert crop_box((190, 90, 200, 100), (200, 100)) == (183, 83, 200, 100)
    assert crop_box((300, 300, 310, 310), (200, 100)) == (199, 99, 200, 100)
    picture = draw_boxes(Image.new("RGB", (200, 100)), BOX, [(BOX, FOUND)])
    assert (max(picture.size) == 168 and FOUND in picture.getcolors(10**5)[0]) or FOUND in {
        c for _, c in picture.getcolors(10**5)
    }


def test_a_region_is_tinted_alone():
    inside = np.array([[True, False]])
    picture = np.asarray(draw_region(Image.new("RGB", (60, 60)), (20, 20, 40, 30), inside, TRUE))
    left, top, right, _ = crop_box((20, 20, 40, 30), (60, 60))
    scale = 168 / (right - left)
    y = round((25 - top) * scale)
    assert picture[y, round((24 - left) * scale)].sum() > 100 > picture[y, round((36 - left) * scale)].sum()


def test_the_file_gives_back_what_was_written_and_refuses_others(tmp_path):
    shown = {"a": [Failure("missed", "found by nobody", as_jpeg(Image.new("RGB", (4, 4))))]}
    assert load_failures(tmp_path) == {}
    save_failures(shown, tmp_path)
    again = load_failures(tmp_path)
    assert again == shown
    assert Image.open(io.BytesIO(base64.b64decode(again["a"][0].jpeg))).size == (4, 4)
    path = tmp_path / "failures.json"
    path.write_text(json.dumps({"classes": {"a": [{"sort": "x", "words": "y", "jpeg": '"><script>'}]}}))
    with pytest.raises(DataError, match=r"failures\.json holds pictures that are not base64"):
        load_failures(tmp_path)
    path.write_text("[]")
    with pytest.raises(DataError, match=r"failures\.json"):
        load_failures(tmp_path)


def labels():
    truth = np.zeros((40, 40), dtype=np.uint8)
    truth[10:30, 10:30] = 1
    truth[:, 38:] = 255
    prediction = truth.copy()
    prediction[10:20, 10:30] = 2
    prediction[:, 38:] = 1
    return prediction, truth


def test_regions_of_wrong_pixels_by_hand():
    missed, taken = wrong_regions("a", *labels(), 255)
    assert (missed.sort, missed.label, missed.other, missed.pixels, missed.box) == (
        "missed",
        1,
        2,
        200,
        (10, 10, 30, 20),
    )
    assert (taken.sort, taken.label, taken.other) == ("false positive", 2, 1) and missed.inside.all()


def test_the_largest_regions_are_kept_and_merged():
    parts = []
    for seed in range(3):
        part = LargestRegions()
        for image in range(3):
            prediction, truth = labels()
            prediction[20 : 21 + seed + image, 10:30] = 2
            part.add(wrong_regions(f"{seed}-{image}", prediction, truth, 255))
        parts.append(part)
    whole = LargestRegions()
    whole.merge(parts)
    assert [r.pixels for r in whole.of(1, "missed")] == [300, 280, 280, 260]
    assert not whole.of(0, "missed")


def test_failures_of_a_segmentation_are_drawn(tmp_path):
    prediction, truth = labels()
    diagnosis = LabelDiagnosis(3, 255)
    regions = wrong_regions("a", prediction, truth, 255)
    diagnosis.add("a", *diagnosis.look(torch.from_numpy(prediction), torch.from_numpy(truth)), regions)
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    drawn = region_failures(diagnosis, ("x", "y", "z"), photos_named({"a": tmp_path / "a.png"}))
    assert [(f.sort, f.words) for f in drawn["y"]] == [("missed", "called z, 200 px")]
    assert "x" not in drawn
