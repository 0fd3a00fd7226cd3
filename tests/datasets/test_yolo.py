from pathlib import Path

import pytest

from longtail.datasets import open_dataset
from longtail.datasets.yolo import Yolo
from longtail.errors import ConfigError, DataError
from support.detection_layouts import IMAGES, photo, yolo, yolo_lines


def with_label(root: Path, text: str) -> Path:
    """One image of 100 x 50 pixels, without splits."""
    photo(root / "images" / "sky.jpg", "sky")
    (root / "labels").mkdir()
    (root / "labels" / "sky.txt").write_text(text)
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


def test_polygons_are_masks(tmp_path: Path) -> None:
    with_label(tmp_path, "1 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n")
    sample = open_dataset(tmp_path, "all")[0]
    assert sample["boxes"].tolist() == [[10, 10, 30, 30]] and sample["labels"].tolist() == [1]
    mask = sample["masks"][0]
    assert mask[10:30, 10:30].all() and mask.sum() == 400
    assert open_dataset(tmp_path, "all").file.segmentation(0) == [[10, 10, 30, 10, 30, 30, 10, 30]]


def test_boxes_beside_polygons(tmp_path: Path) -> None:
    with_label(tmp_path, "1 0.1 0.2 0.3 0.2 0.3 0.6\n0 0.5 0.5 0.2 0.4\n")
    with pytest.raises(DataError, match=r"has no mask \(1 of 2 objects"):
        open_dataset(tmp_path, "all")
    assert open_dataset(tmp_path, "all", masks=False)[0]["boxes"].tolist() == [[10, 10, 30, 30], [40, 15, 60, 35]]


def test_notes(tmp_path: Path) -> None:
    yolo(tmp_path)
    label = tmp_path / "labels/train/sky.txt"
    label.write_text(label.read_text() * 2)
    data = open_dataset(tmp_path, "train")
    assert data.note == (
        "1 images have no label file and so no objects; 2 lines that stand twice in their file are read once"
    )
    assert sum(map(len, data.image_labels)) == 3


def test_darknet_lists_every_image_in_one_file(tmp_path: Path) -> None:
    """The export of CVAT: paths with a folder that is not there."""
    for name in IMAGES:
        photo(tmp_path / "obj_train_data" / f"{name}.jpg", name)
        (tmp_path / "obj_train_data" / f"{name}.txt").write_text(yolo_lines(name))
    (tmp_path / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "train.txt").write_text("".join(f"data/obj_train_data/{name}.jpg\n" for name in IMAGES))
    assert len(open_dataset(tmp_path, "all")) == 3
    sides = [open_dataset(tmp_path, split, val_share=0.5) for split in ("train", "val")]
    assert sum(map(len, sides)) == 3 and all("no splits" in side.note for side in sides)


def test_a_photograph_on_its_side(tmp_path: Path) -> None:
    """Shares are of the image as it is shown."""
    from PIL import Image

    with_label(tmp_path, "0 0.5 0.5 0.2 0.4\n")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 50)).save(tmp_path / "images" / "sky.jpg", exif=exif)
    sample = open_dataset(tmp_path, "all")[0]
    assert sample["image"].shape[-2:] == (100, 50) and sample["boxes"].tolist() == [[20, 30, 30, 70]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2 0.5 0.5 0.1 0.1", "is of class 2, but .*classes.txt names 2 classes"),
        ("0.5 0.5 0.5 0.1 0.1", "is of class 0.5"),
        ("-1 0.5 0.5 0.1 0.1", "is of class -1"),
        ("cat 0.5 0.5 0.1 0.1", "line 2 of .*sky.txt is 'cat"),
        ("0 50 25 20 20", "no shares of the image"),
        ("0 0.5 nan 0.1 0.1", "no shares of the image"),
        ("0 0.5 0.5 -0.005 0.1", "no shares of the image"),
        ("0 0.5 0.5 0.1", "has 3 numbers after the class"),
        ("0 0.5 0.5 0.1 0.1 0.9", "has 5 numbers after the class, maybe a box with a confidence"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "has 7 numbers"),
        ("inf 0.5 0.5 0.1 0.1", "line 2"),
        ("0", "has 0 numbers"),
    ],
)
def test_lines_that_are_refused(line: str, words: str, tmp_path: Path) -> None:
    with_label(tmp_path, f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(DataError, match=words):
        open_dataset(tmp_path, "all")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: [cat, cat]\ntrain: images\n", "'cat' to the classes 0, 1"),
        ("names: {0: cat, 2: dog}\ntrain: images\n", "names of .*data.yaml are"),
        ("names: 3\ntrain: images\n", "names of .*data.yaml are 3"),
        ("names: [cat, dog]\nnc: 3\ntrain: images\n", "nc: 3 and 2 names"),
        ("names: [cat, dog]\nkpt_shape: [17, 3]\ntrain: images\n", "key points"),
        ("names: [cat, dog]\ntrain: pictures\n", "names pictures, which is not under"),
        ("names: [cat, dog]\nval: images\n", "no split 'train'"),
        ("names: [cat\n", "cannot read names and splits"),
        ("[" * 100_000, "cannot read names and splits"),
    ],
)
def test_descriptions_that_are_refused(text: str, words: str, tmp_path: Path) -> None:
    with_label(tmp_path, "0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=words):
        Yolo(tmp_path, "train")


def test_labels_that_are_elsewhere(tmp_path: Path) -> None:
    with_label(tmp_path, "0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "labels").rename(tmp_path / "txt")
    with pytest.raises(DataError, match=r"none of the 1 images .* has a label file"):
        Yolo(tmp_path, "all")


def test_one_of_several_descriptions(tmp_path: Path) -> None:
    yolo(tmp_path)
    (tmp_path / "other.yaml").write_text("train: images/train\nval: images/val\nnames: [one, two]\n")
    with pytest.raises(DataError, match=r"several descriptions: data\.yaml, other\.yaml"):
        Yolo(tmp_path)
    assert Yolo(tmp_path, annotations="other.yaml").classes.names == ("one", "two")


def test_options_of_the_command_line(tmp_path: Path) -> None:
    yolo(tmp_path)
    assert len(open_dataset(f"yolo:{tmp_path}", "train", keep_empty=False)) == 2
    with pytest.raises(ConfigError, match="keep_empty is null"):
        open_dataset(f"yolo:{tmp_path}", "train", keep_empty=None)
    with pytest.raises(ConfigError, match="has no option 'colour'"):
        open_dataset(f"yolo:{tmp_path}", "train", colour=1)
