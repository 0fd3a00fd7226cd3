import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from longtail.annotations.read import read_coco_file
from longtail.datasets.coco import Coco
from longtail.errors import DataError
from longtail.frequency.count_instances import count_instances
from longtail.metrics.detection_truth import DetectionTruth

SQUARE = [[2, 3, 12, 3, 12, 8, 2, 8]]


def annotation(identity: int, image: int, category: int, box: list, **more: Any) -> dict:
    return {"id": identity, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0, **more}


def content() -> dict:
    """Three images, listed out of order; two categories, too; the second image is empty."""
    return {
        "images": [
            {"id": 9, "width": 40, "height": 30, "file_name": "b/second.png"},
            {"id": 4, "width": 20, "height": 10, "file_name": "first.png"},
            {"id": 6, "width": 20, "height": 10, "file_name": "b/empty.png"},
        ],
        "categories": [{"id": 70, "name": "zebra"}, {"id": 3, "name": "ant"}],
        "annotations": [
            annotation(5, 9, 70, [2, 3, 10, 5], segmentation=SQUARE, area=50),
            annotation(0, 4, 3, [0, 0, 2, 2], segmentation={"size": [10, 20], "counts": [0, 2, 8, 2, 188]}),
            annotation(7, 9, 3, [30, 20, 20, 20], segmentation=[[30, 20, 40, 20, 40, 30, 30, 30]]),
            annotation(8, 9, 3, [0, 0, 40, 30], iscrowd=1, segmentation={"size": [30, 40], "counts": "0l01O0lX1"}),
            annotation(2, 9, 3, [100, 20, 20, 20], segmentation=SQUARE),
        ],
    }


def write(root: Path, data: dict, name: str = "train.json") -> Path:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "images" / "b").mkdir(parents=True, exist_ok=True)
    for image in data["images"]:
        pixels = np.full((image["height"], image["width"], 3), image["id"], np.uint8)
        Image.fromarray(pixels).save(root / "images" / image["file_name"])
    path = root / "annotations" / name
    path.write_text(json.dumps(data))
    return path


def test_samples(tmp_path: Path) -> None:
    data = content()
    from hotcoco import mask

    crowd = mask.encode(np.asfortranarray(np.ones((30, 40), np.uint8)))
    data["annotations"][3]["segmentation"] = {"size": [30, 40], "counts": crowd["counts"].decode()}
    write(tmp_path, data)
    dataset = Coco(tmp_path, "train")
    assert dataset.classes.names == ("ant", "zebra") and dataset.category_ids.tolist() == [3, 70]
    assert dataset.image_ids == [9, 4, 6] and len(dataset) == 3
    sample = dataset[0]
    assert sample["image"].shape == (3, 30, 40) and sample["image"].unique().tolist() == [9]
    # the order of the file; cut at the border; what lies outside is dropped
    assert sample["boxes"].tolist() == [[2, 3, 12, 8], [30, 20, 40, 30], [0, 0, 40, 30]]
    assert sample["labels"].tolist() == [1, 0, 0] and sample["crowd"].tolist() == [False, False, True]
    assert sample["masks"].dtype == torch.bool and sample["masks"].sum((1, 2)).tolist() == [50, 100, 1200]
    assert sample["masks"][0, 3:8, 2:12].all()
    assert sample["image_id"] == 9 and sample["name"] == "second"
    assert dataset[1]["masks"][0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    empty = dataset[2]
    assert (
        empty["boxes"].shape == (0, 4) and empty["masks"].shape == (0, 10, 20) and empty["labels"].dtype == torch.int64
    )
    assert [labels.tolist() for labels in dataset.image_labels] == [[1, 0], [0], []]


def test_counts_leave_out_crowds(tmp_path: Path) -> None:
    write(tmp_path, content())
    frequency = count_instances(Coco(tmp_path))
    assert frequency.instances.tolist() == [2, 1] and frequency.images.tolist() == [2, 1]
    assert frequency.num_images == 3 and frequency.class_names == ("ant", "zebra") and frequency.fingerprint


def test_images_without_objects_can_be_left_out(tmp_path: Path) -> None:
    write(tmp_path, content())
    dataset = Coco(tmp_path, keep_empty=False)
    assert dataset.image_ids == [9, 4] and dataset.annotation_file is None and len(dataset.image_labels) == 2
    assert Coco(tmp_path).annotation_file is not None
    assert dataset.fingerprint != Coco(tmp_path).fingerprint == Coco(tmp_path).fingerprint


def test_boxes_only(tmp_path: Path) -> None:
    data = content()
    for a in data["annotations"]:
        a.pop("segmentation")
    write(tmp_path, data)
    assert "masks" not in Coco(tmp_path)[0]
    with pytest.raises(DataError, match=r"annotation 5 of .* has no mask"):
        Coco(tmp_path, masks=True)
    data["annotations"][0]["segmentation"] = []
    write(tmp_path, data)
    assert not Coco(tmp_path).has_masks


def test_a_transform_gets_the_whole_sample(tmp_path: Path) -> None:
    write(tmp_path, content())
    seen = []
    Coco(tmp_path, masks=False, transform=lambda sample: seen.append(sample) or sample)[1]
    assert set(seen[0]) == {"image", "boxes", "labels", "crowd", "image_id", "name"}


def test_survives_pickling(tmp_path: Path) -> None:
    write(tmp_path, content())
    dataset = Coco(tmp_path)
    expected = dataset[1]["masks"]
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[1]["masks"], expected)


def test_finds_other_layouts(tmp_path: Path) -> None:
    path = write(tmp_path, content())
    path.rename(tmp_path / "annotations" / "instances_val2017.json")
    (tmp_path / "images").rename(tmp_path / "val2017")
    assert len(Coco(tmp_path, "val")) == 3
    assert len(Coco(tmp_path, annotations="annotations/instances_val2017.json", images="val2017")) == 3
    with pytest.raises(DataError, match=r"no annotation files of split 'test', but of val"):
        Coco(tmp_path, "test")


def test_coco_url_names_the_file_where_nothing_else_does(tmp_path: Path) -> None:
    data = content()
    write(tmp_path, data)
    for image in data["images"]:
        name = image.pop("file_name").split("/")[-1]
        image["coco_url"] = f"http://images.cocodataset.org/b/{name}"
    (tmp_path / "images/first.png").rename(tmp_path / "images/b/first.png")
    (tmp_path / "annotations/train.json").write_text(json.dumps(data))
    assert Coco(tmp_path).image_files[1] == tmp_path / "images/b/first.png"


def broken(what: str) -> tuple[dict, str]:
    data = content()
    annotations = data["annotations"]
    if what == "image":
        annotations[0]["image_id"] = 5
        return data, "annotation 5 of .*train.json names image 5,"
    if what == "category":
        annotations[0]["category_id"] = 4
        return data, "annotation 5 of .*train.json names category 4,"
    if what == "twice":
        annotations[0]["id"] = 7
        return data, "annotation id 7 stands 2 times in .*train.json"
    if what == "images twice":
        data["images"][1]["id"] = 9
        return data, "image id 9 stands 2 times"
    if what == "negative":
        annotations[0]["bbox"] = [1, 1, -3, 2]
        return data, r"annotation 5 of .* has the box \[1, 1, -3, 2\]"
    if what == "nan":
        annotations[0]["bbox"] = [1, 1, float("nan"), 2]
        return data, "annotation 5"
    if what == "no size":
        data["images"][0].pop("width")
        return data, r"images\[0\] of .*train\.json has no width"
    if what == "key":
        del annotations[0]["bbox"], annotations[0]["segmentation"]
        return data, "annotation 5 of .* has neither a box nor a mask"
    raise AssertionError(what)


@pytest.mark.parametrize("what", ["image", "category", "twice", "images twice", "negative", "nan", "no size", "key"])
def test_refusals_name_the_id_and_the_file(what: str, tmp_path: Path) -> None:
    write(tmp_path, content())
    data, message = broken(what)
    (tmp_path / "annotations/train.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=message):
        Coco(tmp_path)


@pytest.mark.parametrize("value", ["00001000", "k90000", 1.5, None, True, -1, 2**64])
@pytest.mark.parametrize(
    ("name", "key"),
    [("images", "id"), ("categories", "id"), ("annotations", "id"), ("annotations", "image_id")],
)
def test_refuses_ids_that_the_evaluator_would(name: str, key: str, value: Any, tmp_path: Path) -> None:
    data = content()
    data[name][1][key] = value
    (tmp_path / "train.json").write_text(json.dumps(data))
    with pytest.raises(
        DataError, match=rf"{name}\[1\] of .*train\.json has the {key} {value!r}, (no whole|which is above)"
    ):
        read_coco_file(tmp_path / "train.json")
    with pytest.raises(DataError):
        DetectionTruth(tmp_path / "train.json")


def test_whole_floats_are_ids(tmp_path: Path) -> None:
    data = content()
    data["categories"][0]["id"], data["annotations"][0]["category_id"] = 70.0, 70.0
    write(tmp_path, data)
    assert Coco(tmp_path, masks=False)[0]["labels"].tolist() == [1, 0, 0]


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    path = write(tmp_path, content())
    path.write_text(json.dumps(content()), encoding="utf-8-sig")
    assert Coco(tmp_path)[1]["masks"].sum() == 4
    path.write_text(json.dumps(content()), encoding="utf-16")
    with pytest.raises(DataError, match=r"train\.json: it is not in UTF-8"):
        Coco(tmp_path)


def test_refuses_a_file_in_which_some_objects_have_no_mask(tmp_path: Path) -> None:
    for empty in (None, [], [[]]):
        data = content()
        data["annotations"][2]["segmentation"] = empty
        write(tmp_path, data)
        with pytest.raises(DataError, match=r"annotation 7 of .* has no mask \(1 of 4 objects are without\)"):
            Coco(tmp_path)
        assert "masks" not in Coco(tmp_path, masks=False)[0]


@pytest.mark.parametrize("mask", [5, 0, "text", [1, 2, 3, 4, 5, 6], [[1, 2, 3, 4]], [{"size": [1, 1], "counts": "1"}]])
def test_refuses_what_is_no_mask(mask: Any, tmp_path: Path) -> None:
    data = content()
    data["annotations"][2]["segmentation"] = mask
    write(tmp_path, data)
    with pytest.raises(DataError, match=r"annotation 7 of .*train\.json"):
        Coco(tmp_path)[0]


@pytest.mark.parametrize("flag", ["0", None, 2])
def test_refuses_flags_that_are_neither_0_nor_1(flag: Any, tmp_path: Path) -> None:
    data = content()
    data["annotations"][2]["iscrowd"] = flag
    write(tmp_path, data)
    with pytest.raises(DataError, match=rf"annotation 7 of .* has the iscrowd {flag!r}"):
        Coco(tmp_path)


def test_refuses_boxes_outside_where_asked(tmp_path: Path) -> None:
    write(tmp_path, content())
    with pytest.raises(DataError, match=r"annotation 7 of .* reaches out of its image"):
        Coco(tmp_path, outside="refuse")


def test_refuses_missing_and_wrong_images(tmp_path: Path) -> None:
    write(tmp_path, content())
    (tmp_path / "images/first.png").unlink()
    with pytest.raises(DataError, match=r"1 image files .* first image 4: .*first\.png"):
        Coco(tmp_path)
    dataset = Coco(tmp_path, check_files=False)
    with pytest.raises(DataError, match=r"first\.png"):
        dataset[1]
    Image.new("RGB", (10, 20)).save(tmp_path / "images/first.png")
    with pytest.raises(DataError, match=r"image 4 is \(20, 10\)"):
        dataset[1]


def test_refuses_masks_that_do_not_fit(tmp_path: Path) -> None:
    data = content()
    data["annotations"][1]["segmentation"]["size"] = [20, 10]
    write(tmp_path, data)
    with pytest.raises(DataError, match="mask of annotation 0 of"):
        Coco(tmp_path)[1]
    data["annotations"][1]["segmentation"] = {"size": [10, 20], "counts": [5, 5]}
    write(tmp_path, data)
    with pytest.raises(DataError, match=r"mask of annotation 0 of .*: the run lengths cover 10 pixels of 200"):
        Coco(tmp_path)[1]


def test_refuses_what_is_no_annotation_file(tmp_path: Path) -> None:
    for text in ("[1]", "{", "{}"):
        (tmp_path / "train.json").write_text(text)
        with pytest.raises(DataError, match=r"train\.json"):
            Coco(tmp_path)


def test_masks_stay_in_the_file_whatever_its_layout(tmp_path: Path) -> None:
    data = content()
    path = tmp_path / "file.json"
    for indent, separators in ((None, (",", ":")), (2, None)):
        path.write_text(json.dumps(data, indent=indent, separators=separators))
        file = read_coco_file(path)
        by_id = {a["id"]: a for a in data["annotations"]}
        for place, identity in enumerate(file.ids.tolist()):
            assert file.segmentation(place) == by_id[identity]["segmentation"]
    assert file.ids.tolist() == [5, 7, 8, 2, 0] and file.first.tolist() == [0, 4, 5, 5]


def test_no_annotations_at_all(tmp_path: Path) -> None:
    write(tmp_path, {**content(), "annotations": []})
    dataset = Coco(tmp_path)
    assert len(dataset) == 3 and dataset[0]["boxes"].shape == (0, 4)
    assert count_instances(dataset).instances.tolist() == [0, 0]


def test_real_data(real_data: Path) -> None:
    root = real_data / "trashcan_lt"
    if not root.exists():
        pytest.skip(f"{root} is absent")
    from longtail.frequency.groups import CategoryGroups

    train, val = Coco(root, "train"), Coco(root, "val")
    frequency = count_instances(train)
    assert (len(train), len(val)) == (1470, 603)
    assert frequency.instances.sum() == 2625 and count_instances(val).instances.sum() == 1217
    assert CategoryGroups.lvis(frequency.images).sizes == (11, 21, 7)
    assert frequency.instances.tolist() == [c["instance_count"] for c in train.file.categories]
    sample = val[3]
    for box, mask in zip(sample["boxes"].int().tolist(), sample["masks"], strict=True):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        assert [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] == box
