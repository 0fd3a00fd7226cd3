"""Every layout of boxes gives the same samples."""

import json
import shutil
from pathlib import Path

import pytest

from longtail.datasets import open_dataset
from longtail.datasets.coco import Coco
from longtail.errors import ConfigError, DataError
from longtail.frequency.count_instances import count_instances
from longtail.metrics.detection_truth import DetectionTruth
from support.detection_layouts import CLASSES, IMAGES, LAYOUTS, OBJECTS, coco_content, label_studio, photo, write_json


def objects_of(sample: dict) -> list[tuple]:
    boxes, labels = sample["boxes"].tolist(), sample["labels"].tolist()
    return [(CLASSES[c], *(round(v, 3) for v in box)) for c, box in zip(labels, boxes, strict=True)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_is_recognised_and_read(layout: str, tmp_path: Path) -> None:
    write, kind, count = LAYOUTS[layout]
    write(tmp_path)
    for split in ("train", "val"):
        data = open_dataset(tmp_path, split)
        assert type(data).__name__ == kind and len(data) == count and data.classes.names == CLASSES
        for sample in (data[i] for i in range(len(data))):
            name = next(n for n in IMAGES if n in sample["name"])
            assert tuple(sample["image"].shape[-2:]) == IMAGES[name][::-1]
            assert objects_of(sample) == [(c, *map(float, box)) for c, *box in OBJECTS[name]]
            assert not sample["crowd"].any() and "masks" not in sample
    frequency = count_instances(open_dataset(tmp_path, "train", labels_only=True))
    assert frequency.instances.tolist() == [1, 2] and frequency.images.tolist() == [1, 2]
    truth = DetectionTruth.from_dataset(data)
    assert truth.class_names == CLASSES and len(truth.file.ids) == 3
    assert len(DetectionTruth.from_dataset(data, 1).file.ids) == len(data.image_labels[0])
    with pytest.raises(DataError, match="choose"):
        open_dataset(tmp_path, "evaluation")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_archives_of_macos_leave_is_no_data(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout][0](tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "data" / "__MACOSX")
    for file in [path for path in (tmp_path / "data").rglob("*") if path.is_file()]:
        (file.parent / f"._{file.name}").write_bytes(b"\0\x05\x16\x07")
    assert [len(open_dataset(tmp_path / "data", split)) for split in ("train", "val")] == [LAYOUTS[layout][2]] * 2


def test_one_file_without_splits_is_parted(tmp_path: Path) -> None:
    label_studio(tmp_path)
    everyone = open_dataset(tmp_path, "all")
    assert {p.name for p in everyone.image_files} == {"sky.jpg", "sea.jpg", "fog.jpg"} and not everyone.note
    sides = [{p.name for p in open_dataset(tmp_path, s, val_share=0.5).image_files} for s in ("train", "val")]
    assert sides[0] | sides[1] == {"sky.jpg", "sea.jpg", "fog.jpg"} and not sides[0] & sides[1] and all(sides)
    train = open_dataset(tmp_path, "train", val_share=0.5)
    assert "result.json has no splits" in train.note and train.annotation_file is None
    assert len(train.image_labels) == len(train) == len(sides[0])
    assert DetectionTruth.from_dataset(train).image_ids.tolist() == sorted(train.image_ids)


def test_frames_of_a_video_stay_together(tmp_path: Path) -> None:
    content = coco_content()
    content["images"] = [
        {"id": 10 * v + f, "file_name": f"video_{v}_{f}.jpg", "width": 20, "height": 20}
        for v in range(12)
        for f in range(2)
    ]
    content["annotations"] = []
    write_json(tmp_path / "annotations.json", content)
    options = {"check_files": False, "split_by": r"video_(\d+)", "val_share": 0.4}
    sides = [{i // 10 for i in open_dataset(tmp_path, split, **options).image_ids} for split in ("train", "val")]
    assert len(sides[0]) + len(sides[1]) == 12 and not sides[0] & sides[1] and all(sides)
    named = Coco(tmp_path, "val", annotations="annotations.json", **options)  # a named file is parted only when asked
    assert {i // 10 for i in named.image_ids} == sides[1]
    assert len(Coco(tmp_path, "val", annotations="annotations.json", check_files=False)) == 24


def test_split_by_of_data_with_splits(tmp_path: Path) -> None:
    LAYOUTS["roboflow"][0](tmp_path)
    with pytest.raises(ConfigError, match="already has splits"):
        open_dataset(tmp_path, "train", split_by="video")


def test_the_split_in_the_names_of_files(tmp_path: Path) -> None:
    LAYOUTS["objects365"][0](tmp_path)
    options = {"annotations": "zhiyuan_objv2_{split}.json", "images": "{split}/patch3"}
    data = open_dataset(f"coco:{tmp_path}", "val", check_files=False, **options)
    assert data.file.path.name == "zhiyuan_objv2_val.json"
    assert all("val" in path.parts for path in data.image_files)


def test_several_files_that_may_be_meant(tmp_path: Path) -> None:
    for name in ("first.json", "second.json"):
        write_json(tmp_path / name, coco_content())
    with pytest.raises(DataError, match=r"several annotation files for split 'train': first.json, second.json"):
        open_dataset(tmp_path, "train")


def test_files_of_other_tasks_are_left_out(tmp_path: Path) -> None:
    for name in IMAGES:
        photo(tmp_path / "images" / f"{name}.jpg", name)
    for name in ("captions_train2017.json", "person_keypoints_train2017.json", "boxes_train.json"):
        write_json(tmp_path / "annotations" / name, coco_content())
    assert open_dataset(tmp_path, "train").file.path.name == "boxes_train.json"


def test_images_that_may_be_two_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for name in IMAGES:
            photo(tmp_path / "photos" / folder / f"{name}.jpg", name)
    write_json(tmp_path / "boxes.json", coco_content())
    with pytest.raises(DataError, match=r"image 'sky.jpg' may be .*a/sky.jpg or .*b/sky.jpg"):
        open_dataset(tmp_path, "all")
    write_json(tmp_path / "boxes.json", coco_content(file_name="elsewhere/b/{}.jpg"))
    assert {path.parent.name for path in open_dataset(tmp_path, "all").image_files} == {"b"}


def test_decomposed_letters(tmp_path: Path) -> None:
    photo(tmp_path / "photos" / "Ba\u0308r.jpg", "sky")
    write_json(tmp_path / "boxes.json", coco_content(["sky"], file_name="B\u00e4r.jpg"))
    assert open_dataset(tmp_path, "all").image_files[0].is_file()


def test_missing_images_are_named(tmp_path: Path) -> None:
    label_studio(tmp_path)
    (tmp_path / "images" / "sea.jpg").unlink()
    with pytest.raises(DataError, match=r"1 image files of .*result.json are missing"):
        open_dataset(tmp_path, "all")
    shutil.rmtree(tmp_path / "images")
    assert count_instances(open_dataset(tmp_path, "all", labels_only=True)).instances.tolist() == [1, 2]


def test_a_file_that_is_no_annotation_is_no_layout(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text(json.dumps({"name": "images"}))
    with pytest.raises(DataError, match="of no known data set"):
        open_dataset(tmp_path, "train")
