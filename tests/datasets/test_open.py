import json
import shutil

import numpy as np
import pytest
from PIL import Image

from longtail.datasets import ADE20K, Cityscapes, Coco, LongTailScenes, SegmentationFolder, open_dataset
from longtail.datasets.open import _layout
from longtail.errors import ConfigError, DataError
from support.tiny_detection import write_coco


class Mine:
    def __init__(self, split, transform=None, size=1):
        self.split, self.size = split, size


def test_scenes_and_their_options():
    data = open_dataset("longtail-scenes", "val", num_images=3, size=(32, 40))
    assert isinstance(data, LongTailScenes) and len(data) == 3 and data[0]["mask"].shape == (32, 40)


@pytest.mark.parametrize(
    ("kind", "named", "images", "labels"),
    [
        (SegmentationFolder, "folder", "images/train/x.png", "labels/train/x.png"),
        (Cityscapes, "cityscapes", "leftImg8bit/train/ulm/x_leftImg8bit.png", "gtFine/train/ulm/x_gtFine_labelIds.png"),
        (ADE20K, "ade20k", "images/training/x.png", "annotations/training/x.png"),
    ],
)
def test_by_name_and_by_layout(tmp_path, kind, named, images, labels):
    for file, pixels in ((images, np.zeros((2, 2, 3), np.uint8)), (labels, np.zeros((2, 2), np.uint8))):
        (tmp_path / file).parent.mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / file)
    (tmp_path / "classes.txt").write_text("a\n")
    for name in (f"{named}:{tmp_path}", str(tmp_path), tmp_path):
        data = open_dataset(name, "train", transform=lambda sample: {**sample, "name": "mine"})
        assert type(data) is kind and data[0]["name"] == "mine"


def test_labels_only_needs_neither_image_files_nor_masks(tmp_path):
    write_coco(tmp_path, "train")
    file = tmp_path / "annotations/train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="has no mask"):
        open_dataset(f"coco:{tmp_path}", "train")
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(DataError, match="image files"):
        open_dataset(f"coco:{tmp_path}", "train", masks=False)
    assert len(open_dataset(f"coco:{tmp_path}", "train", labels_only=True).image_labels) == 5
    assert len(open_dataset("longtail-scenes", "train", labels_only=True, num_images=2)) == 2


def test_dotted_path(monkeypatch):
    import sys
    from types import ModuleType

    module = ModuleType("my_package_of_data")
    module.Mine = Mine
    monkeypatch.setitem(sys.modules, "my_package_of_data", module)
    data = open_dataset("my_package_of_data.Mine", "test", size=5)
    assert (data.split, data.size) == ("test", 5)


@pytest.mark.parametrize(
    "name", ["nonsense", "no.such.Data", "longtail.datasets.palette.Nothing", "a b.c", "", "/no/where"]
)
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(ConfigError, match=r"longtail-scenes.*cityscapes:ROOT"):
        open_dataset(name, "train")


def test_unknown_options_and_layouts_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no option 'colour'.*\n.*num_images"):
        open_dataset("longtail-scenes", "train", colour=3)
    (tmp_path / "stuff").mkdir()
    with pytest.raises(DataError, match="no known data set; it holds stuff"):
        open_dataset(tmp_path, "train")
    for task, own, other in (("detection", "coco:ROOT", "folder:ROOT"), ("segmentation", "folder:ROOT", "coco:ROOT")):
        for name in (tmp_path, "nowhere"):
            with pytest.raises((ConfigError, DataError)) as refusal:
                open_dataset(name, "train", task=task)
            assert own in refusal.value.fix and other not in refusal.value.fix


def test_folders_of_other_names_need_no_layout(tmp_path, monkeypatch):
    for kind, pixels in (("rgb", np.zeros((2, 2, 3), np.uint8)), ("ids", np.zeros((2, 2), np.uint8))):
        (tmp_path / "data" / kind / "train").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "data" / kind / "train" / "x.png")
    (tmp_path / "names.txt").write_text("a\n")
    monkeypatch.chdir(tmp_path)  # paths are relative to the data set, or to the working folder
    for before in ("", "data/"):
        folders = {"image_dir": f"{before}rgb/{{split}}", "label_dir": f"{before}ids/{{split}}"}
        assert len(open_dataset("data", "train", classes="names.txt", **folders)) == 1


def test_data_of_the_other_task_are_refused(tmp_path):
    write_coco(tmp_path / "boxes", "train")
    with pytest.raises(ConfigError, match=r"is no data set for segmentation\n.*longtail train detection"):
        open_dataset(tmp_path / "boxes", "train", task="segmentation")
    for kind in ("images", "labels"):
        (tmp_path / "masks" / kind).mkdir(parents=True)
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "masks" / kind / "a.png")
    (tmp_path / "masks/classes.txt").write_text("a")
    with pytest.raises(ConfigError, match=r"is no data set for detection\n.*longtail train segmentation"):
        open_dataset(tmp_path / "masks", "all", task="detection")
    for task in ("segmentation", "detection"):
        with pytest.raises(ConfigError, match=f"is no data set for {task}"):
            open_dataset(f"{__name__}.Mine", "train", task=task)
        assert len(open_dataset("longtail-scenes", "train", task=task, num_images=2)) == 2


def test_annotation_files_are_recognised(real_data):
    data = open_dataset(real_data / "trashcan_lt", "val")
    assert type(data) is Coco and len(data) == 603
    assert type(open_dataset(f"coco:{real_data / 'trashcan_lt'}", "val", masks=False)) is Coco


@pytest.mark.parametrize(("file", "name"), [("lvis_v1_train.json", "lvis"), ("instances_train2017.json", "coco")])
def test_lvis_and_coco_layouts_are_told_apart(tmp_path, file, name):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations" / file).write_text("{}")
    assert _layout(tmp_path) == name
