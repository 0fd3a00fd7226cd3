"""Detections that people have: scored as they are meant, said what they betray, or refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longtail.errors import ConfigError, DataError
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.read_detections import read_detections
from longtail.metrics.results import Results
from longtail.metrics.score_detections import score_detections

LARGE = 2**63 - 3
SIDE = 100


def truth(count: int = 8, ids: int = 1, **more: Any) -> dict[str, Any]:
    """Images with one object each, of the classes 1, 2, 3 in turn."""
    boxes = [[10 + 3 * n, 20 + 2 * n, 25, 30] for n in range(count)]
    return {
        "images": [{"id": ids + n, "width": SIDE, "height": SIDE} for n in range(count)],
        "categories": [{"id": c, "name": f"c{c}"} for c in (1, 2, 3, 4)],
        "annotations": [
            {"id": n + 1, "image_id": ids + n, "category_id": 1 + n % 3, "bbox": box, "area": 750, "iscrowd": 0, **more}
            for n, box in enumerate(boxes)
        ],
    }


def perfect(content: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    keys = ("image_id", "category_id", "bbox")
    return [{**{k: a[k] for k in keys}, "score": 0.9, **more} for a in content["annotations"]]


def score(content: dict[str, Any], found: list[dict[str, Any]], folder: Path, **options: Any) -> Results:
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "found.json").write_text(json.dumps(found))
    return score_detections(folder / "truth.json", folder / "found.json", **options)


@pytest.mark.parametrize("ids", [1, 2**53, LARGE - 5])
@pytest.mark.parametrize("federated", [False, True])
def test_perfect_detections_score_1_whatever_the_ids(ids: int, federated: bool, tmp_path: Path) -> None:
    content = truth(ids=ids)
    results = score(content, perfect(content), tmp_path, federated=federated)
    for metric in ("AP", "AP_fixed", "AP_pool", "APs"):
        assert results.own.overall[metric] == pytest.approx(1), metric
    assert not results.data["notes"]


def test_image_ids_that_are_no_whole_numbers_are_refused_in_memory() -> None:
    with pytest.raises(ConfigError, match="no whole numbers"):
        DetectionArrays(np.array([1.7]), np.zeros((1, 4)), np.ones(1), np.zeros(1))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"image_id": "frame_0001"}, "has the image_id 'frame_0001', no whole number"),
        ({"image_id": 1.7}, "has the image_id 1.7, no whole number"),
        ({"category_id": True}, "has the category_id True"),
        ({"image_id": 2**63}, "has the image_id 9223372036854775808, which is above"),
        ({"image_id": 77}, r"1 detections in .* are of images .* such as 77 \(detections\[1\]\)"),
        ({"category_id": 9}, r"are of categories .* such as 9 \(detections\[1\]\)"),
        ({"score": "x"}, "has the score 'x', no finite number"),
        ({"score": {"a": 1}}, "has the score {'a': 1}"),
        ({"score": float("nan")}, "has the score nan"),
        ({"bbox": [1, 2, 3]}, r"has the box \[1, 2, 3\]"),
        ({"bbox": [1, 2, -3, 4]}, r"has the box \[1, 2, -3, 4\]"),
        ({"bbox": None}, r"detections\[1\] of .* has no bbox, and detections\[0\] has one"),
        ({"segmentation": [[1, 1, 9, 1, 9, 9]]}, r"detections\[0\] of .* has no segmentation, and detections\[1\] has"),
    ],
)
def test_a_wrong_value_is_named(change: dict, problem: str, tmp_path: Path) -> None:
    content = truth()
    found = perfect(content)
    found[1] |= change
    with pytest.raises(DataError, match=problem):
        score(content, found, tmp_path)


def test_a_missing_key_and_what_is_no_list(tmp_path: Path) -> None:
    known = DetectionTruth(truth())
    for content, problem in (
        ([{"image_id": 1, "category_id": 1}], r"detections\[0\] of .* has no score"),
        ([{"image_id": 1, "category_id": 1, "score": 1}], r"detections\[0\] of .* has neither bbox nor segmentation"),
        ([[]], r"detections\[0\] of .* is \[\], no object"),
        ({"annotations": []}, "no list of detections"),
    ):
        (tmp_path / "found.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match=problem):
            read_detections(tmp_path / "found.json", known)


def test_unknown_categories_that_are_off_by_one_are_told(tmp_path: Path) -> None:
    content = truth()
    found = [{**d, "category_id": d["category_id"] - 1} for d in perfect(content)]
    with pytest.raises(DataError, match=r"such as 0 .*\n.*off by one"):
        score(content, found, tmp_path)


SQUARE = [[10, 20, 35, 20, 35, 50, 10, 50]]


def test_masks_are_scored_where_both_sides_have_them(tmp_path: Path) -> None:
    for more, masks in (({}, False), ({"segmentation": []}, False), ({"segmentation": SQUARE}, True)):
        content = truth(1, **more)
        found = perfect(content, segmentation=SQUARE)
        results = score(content, found, tmp_path)
        assert results.own.overall["AP"] == pytest.approx(1) and ("mask_AP" in results.own.overall) == masks
        said = ["boxes alone are scored: 1 of 1 objects of truth.json have no mask to compare the detections' with"]
        assert results.data["notes"] == ([] if masks else said)
        if not masks:
            with pytest.raises(DataError, match=r"annotation 1 of .* has no mask"):
                score(content, found, tmp_path, iou_types=("segm",))
        else:
            assert results.own.overall["mask_AP"] == pytest.approx(1)


def test_boxes_of_truth_are_made_from_its_masks(tmp_path: Path) -> None:
    content = truth(1, segmentation=SQUARE)
    found = perfect(content, segmentation=SQUARE)
    del content["annotations"][0]["bbox"], content["annotations"][0]["area"]
    results = score(content, found, tmp_path)
    assert results.own.overall["AP"] == results.own.overall["mask_AP"] == results.own.overall["APs"] == pytest.approx(1)


def test_an_object_whose_area_is_not_told_has_that_of_its_mask_or_box(tmp_path: Path) -> None:
    file = truth(2)
    for annotation in file["annotations"]:
        del annotation["area"]
    file["annotations"][0]["segmentation"] = [[10, 20, 20, 20, 20, 30, 10, 30]]
    assert DetectionTruth(file).objects(np.arange(2), with_masks=False).areas.tolist() == [100, 750]


def corners(box: list) -> list:
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: {"bbox": corners(d["bbox"])}, r"fit the objects better as \[x1, y1, x2, y2\]"),
        (
            lambda d: {"bbox": [d["bbox"][0] + 12.5, d["bbox"][1] + 15, 25, 30]},
            r"fit the objects better as \[centre x, centre y, width, height\]",
        ),
        (
            lambda d: {"bbox": [v / SIDE for v in d["bbox"]]},
            r"better as \[x, y, width, height\] in parts of the image",
        ),
        (lambda d: {"bbox": [v / SIDE for v in corners(d["bbox"])]}, r"\[x1, y1, x2, y2\] in parts of the image"),
        (lambda d: {"score": 97.5}, r"scores of found reach from 97.5 to 97.5 \(percent\?\)"),
        (lambda d: {"category_id": d["category_id"] + 1}, "8 of the best 8 .* class before theirs, 0 .* off by one"),
    ],
)
def test_says_what_the_numbers_betray(change: Any, said: str, tmp_path: Path) -> None:
    import re

    content = truth()
    found = [{**d, **change(d)} for d in perfect(content)]
    notes = score(content, found, tmp_path).data["notes"]
    assert len(notes) == 1 and re.search(said, notes[0]), notes


def test_poor_detections_betray_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = truth(40)
    found = [
        {
            "image_id": int(rng.integers(1, 41)),
            "category_id": int(rng.integers(1, 5)),
            "bbox": rng.integers(1, 50, 4).tolist(),
            "score": float(rng.random()),
        }
        for _ in range(400)
    ]
    assert score(content, found, tmp_path).data["notes"] == []
    assert score(content, [], tmp_path).data["notes"] == []
