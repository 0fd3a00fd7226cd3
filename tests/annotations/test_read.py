"""Annotations that people have: read as they are meant, or refused by name."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longtail.annotations.read import annotation_table, read_coco_file
from longtail.errors import DataError

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]
LARGE = 1_700_000_000_000_000_001


def content(**changes: Any) -> dict[str, Any]:
    """One image with one object of the first of two categories."""
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
        ],
        **changes,
    }


def with_object(**changes: Any) -> dict[str, Any]:
    """The content with one annotation changed; a value ``...`` removes the key."""
    record = {**content()["annotations"][0], **changes}
    return content(annotations=[{k: v for k, v in record.items() if v is not ...}])


def read(value: dict[str, Any], folder: Path) -> Any:
    (folder / "truth.json").write_text(json.dumps(value))
    return read_coco_file(folder / "truth.json")


def test_large_ids_stay_what_they_are(tmp_path: Path) -> None:
    value = with_object(id=2**63 - 1, image_id=LARGE)
    value["images"] = [{**value["images"][0], "id": i} for i in (LARGE, LARGE + 2)]
    file = read(value, tmp_path)
    assert file.image_ids.tolist() == [LARGE, LARGE + 2] and file.ids.tolist() == [2**63 - 1]
    assert file.image_index.tolist() == [0] and file.only([LARGE + 2]).ids.tolist() == []
    assert file.only([LARGE]).boxes.tolist() == [[10, 10, 30, 30]]


@pytest.mark.parametrize(
    "box", [[10, 10, 20, 20, 30.0], [1, 2, 3, 4, 5, 6, 7, 8], [10, 10], None, [], "1234", [1, 2, 3, "4"]]
)
def test_a_box_is_four_numbers(box: Any, tmp_path: Path) -> None:
    for repeated in (1, 4):  # four boxes of five make five of four
        value = content(
            annotations=[{**with_object(bbox=box)["annotations"][0], "id": i} for i in range(1, repeated + 1)]
        )
        with pytest.raises(DataError, match=r"annotation 1 of .*truth\.json has the box"):
            read(value, tmp_path)


@pytest.mark.parametrize(
    "box",
    [[0, 0, float("inf"), 1], [0, 0, -1, 1], [0, 0, 1e200, 1e200], [1e30, 0, 1, 1], [0, 0, 10**400, 1], [True] * 4],
)
def test_a_box_is_finite_and_of_no_negative_size(box: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"annotation 1 of .*truth\.json has the box"):
        read(with_object(bbox=box), tmp_path)


def test_boxes_are_made_from_masks_where_there_are_none(tmp_path: Path) -> None:
    runs = {"size": [100, 100], "counts": [1010, 20, 8970]}  # column 10, rows 10 to 29
    for mask, box in ((SQUARE, [10, 10, 30, 30]), (runs, [10, 10, 11, 30])):
        for absent in (..., None):
            assert read(with_object(bbox=absent, segmentation=mask), tmp_path).boxes.tolist() == [box]
    with pytest.raises(DataError, match=r"annotation 1 of .* has neither a box nor a mask"):
        read(with_object(bbox=...), tmp_path)
    with pytest.raises(DataError, match=r"annotation 1 of .* none can be made from its mask: the run lengths cover"):
        read(with_object(bbox=..., segmentation={"size": [100, 100], "counts": [5]}), tmp_path)
    with pytest.raises(DataError, match=r"annotation 1 of .*"):
        read(with_object(bbox=..., segmentation=[[1, 2, 3, 4, 5, "6"]]), tmp_path)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (with_object(id=...), r"annotations\[0\] of .* has no id"),
        (with_object(id=1.5), r"annotations\[0\] of .* has the id 1.5, no whole number"),
        (with_object(image_id="frame_1"), r"annotations\[0\] of .* has the image_id 'frame_1', no whole number"),
        (with_object(category_id=None), r"annotations\[0\] of .* has the category_id None"),
        (with_object(id=2**63), r"has the id 9223372036854775808, which is above 9223372036854775807"),
        (with_object(id=1e18), r"has the id 1e\+18, no whole number"),  # between the whole numbers that floats hold
        (with_object(id=True), r"has the id True"),
        (with_object(id=-1), r"has the id -1, no whole number from 0 on"),
        (with_object(iscrowd=[]), r"annotation 1 of .* has the iscrowd \[\]"),
        (with_object(area="400"), r"annotation 1 of .* has the area '400'"),
        (with_object(area=-1), r"annotation 1 of .* has the area -1"),
        (content(annotations=content()["annotations"] * 2), "annotation id 1 stands 2 times"),
        (content(images=content()["images"] * 2), "image id 1 stands 2 times"),
        (content(categories=content()["categories"] * 2), "category id 1 stands 2 times"),
        (
            content(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]),
            "categories 1, 2 of .* have one name, 'a'",
        ),
        (content(categories=[{"id": 1, "name": None}]), "category 1 of .* has the name None, no text"),
        (content(images=[None]), r"images\[0\] of .* is None, no object"),
        (content(annotations={}), "holds dict as 'annotations', no list"),
        ({"images": [], "annotations": []}, "lacks 'categories'"),
    ],
)
def test_wrong_values_are_named(value: dict, problem: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=problem):
        read(value, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"info": {"year": "2024"}},
        {"info": "text"},
        {"info": {"year": ""}},
        {"info": {"version": 1.0}, "licenses": "CC"},
        {"images": [{**content()["images"][0], "date_captured": 0, "license": "CC", "flickr_url": None}]},
        {"categories": [{"id": 1, "name": "a", "supercategory": 3, "keypoints": 5}, {"id": 2, "name": "b"}]},
    ],
)
def test_metadata_decide_nothing(changes: dict, tmp_path: Path) -> None:
    file = read(content(**changes), tmp_path)
    assert file.boxes.tolist() == [[10, 10, 30, 30]] and file.class_names == ("a", "b") and not file.notes


def test_roboflows_root_of_the_categories_is_left_out(tmp_path: Path) -> None:
    root = {"id": 0, "name": "fish", "supercategory": "none"}
    kinds = [{"id": i, "name": name, "supercategory": "fish"} for i, name in ((1, "fish"), (2, "crab"))]
    file = read(content(categories=[root, *kinds]), tmp_path)
    assert file.class_names == ("fish", "crab") and file.labels.tolist() == [0]
    assert file.notes == ("category 0, 'fish', of truth.json is Roboflow's root of all others and left out",)
    annotated = content(categories=[{**root, "name": "all"}, *({**k, "supercategory": "all"} for k in kinds)])
    annotated["annotations"][0]["category_id"] = 0
    assert read(annotated, tmp_path).class_names == ("all", "fish", "crab")
    other = [{"id": 0, "name": "all", "supercategory": "none"}, *kinds]
    assert read(content(categories=other), tmp_path).num_classes == 3


def test_says_that_boxes_look_normalised_or_like_corners(tmp_path: Path) -> None:
    def notes(boxes: list[list[float]]) -> tuple[str, ...]:
        return read(
            content(annotations=[{**with_object(bbox=b)["annotations"][0], "id": i} for i, b in enumerate(boxes)]),
            tmp_path,
        ).notes

    assert "normalised" in notes([[0.1, 0.2, 0.3, 0.4]] * 3)[0]
    assert "none would as [x1, y1, x2, y2]" in notes([[60, 60, 90, 90], [50, 70, 80, 90], [10, 10, 20, 20]])[0]
    assert not notes([[60, 60, 30, 30], [50, 70, 80, 10], [10, 10, 20, 20]])
    assert "1 of 2 boxes of truth.json have no area, annotation 1 the" in notes([[60, 60, 30, 30], [50, 70, 0, 10]])[0]


def test_content_in_memory_has_the_same_checks() -> None:
    value = content()
    before = copy.deepcopy(value)
    assert annotation_table(value, "somewhere").boxes.tolist() == [[10, 10, 30, 30]] and value == before
    with pytest.raises(DataError, match="annotation 1 of somewhere has the box"):
        annotation_table(with_object(bbox=[1, 2, 3]), "somewhere")


def test_masks_of_content_in_memory() -> None:
    file = annotation_table(with_object(segmentation=SQUARE), "somewhere")
    assert file.segmentation(0) == SQUARE and file.masks(np.array([0]), (100, 100)).sum() == 400


def test_a_mask_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    text = json.dumps(with_object(segmentation=SQUARE))
    path.write_bytes(text.encode().replace(b"[[10, 10, 30", b"[[10, 1\x000, 30"))
    with pytest.raises(DataError, match=r"cannot read the mask of annotation 1 of .*truth\.json"):
        read_coco_file(path).checked_masks(np.array([0]))
    path.write_bytes(path.read_bytes().replace(b'"bbox"', b'"box"'))
    with pytest.raises(DataError, match=r"annotation 1 of .* none can be made from its mask"):
        read_coco_file(path)
