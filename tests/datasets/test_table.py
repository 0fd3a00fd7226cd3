from pathlib import Path
from typing import Any

import pytest

from longtail.datasets import open_dataset
from longtail.datasets.table import BoxTable
from longtail.errors import DataError
from support.detection_layouts import open_images, photo, table_roboflow, write_csv

HEADER = ["filename", "class", "xmin", "ymin", "xmax", "ymax"]


def table(root: Path, *rows: list[Any], header: list[str] = HEADER) -> Path:
    photo(root / "sky.jpg", "sky")
    write_csv(root / "boxes.csv", [header, *rows])
    return root


def test_group_boxes_are_crowd(tmp_path: Path) -> None:
    photo(tmp_path / "sky.jpg", "sky")
    header = ["ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf"]
    write_csv(tmp_path / "boxes.csv", [header, ["sky", "cat", 0.1, 0.3, 0.2, 0.4, 1], ["sky", "dog", 0, 1, 0, 1, 0]])
    sample = BoxTable(tmp_path, "all")[0]
    assert sample["crowd"].tolist() == [True, False]
    assert sample["boxes"].tolist() == [[10, 10, 30, 20], [0, 0, 100, 50]]


def test_numbers_as_classes_are_in_order(tmp_path: Path) -> None:
    table(tmp_path, *(["sky.jpg", c, 1, 1, 5, 5] for c in (10, 9, 2)))
    data = BoxTable(tmp_path, "all")
    assert data.classes.names == ("2", "9", "10") and data.image_labels[0].tolist() == [2, 1, 0]


def test_all_splits_have_the_same_classes(tmp_path: Path) -> None:
    table_roboflow(tmp_path)
    write_csv(tmp_path / "valid" / "_annotations.csv", [HEADER, ["sea.jpg", "dog", 0, 0, 3, 4]])
    assert BoxTable(tmp_path, "val").classes.names == ("cat", "dog")
    assert BoxTable(tmp_path, "val").image_labels[0].tolist() == [1]


def test_a_label_without_description(tmp_path: Path) -> None:
    open_images(tmp_path)
    write_csv(tmp_path / "class-descriptions-boxable.csv", [["/m/00", "cat"]])
    with pytest.raises(DataError, match="boxes of /m/01, which no class description names"):
        BoxTable(tmp_path, "train")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (["sky.jpg", "cat", 1, 1, "x", 5], "row 2 of .*boxes.csv has the corners"),
        (["sky.jpg", "cat", 1, 1, "", 5], "row 2"),
        (["sky.jpg", "cat", 1, 1, "inf", 5], "row 2"),
        (["sky.jpg", "cat", 9, 1, 5, 5], "row 2"),
        (["sky.jpg", "", 1, 1, 5, 5], "box without a class"),
        (["cloud.jpg", "cat", 1, 1, 5, 5], "cloud.jpg does not exist"),
        (["a\0b.jpg", "cat", 1, 1, 5, 5], "an image is named"),
    ],
)
def test_rows_that_are_refused(row: list, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        BoxTable(table(tmp_path, row), "all")


def test_tables_that_are_none(tmp_path: Path) -> None:
    table(tmp_path, ["sky.jpg", "cat", 1, 1, 5, 5], header=["filename", "class", "x", "y", "w", "h"])
    with pytest.raises(DataError, match="has no table of boxes"):
        BoxTable(tmp_path, "all")
    with pytest.raises(DataError, match="no columns of images, classes and corners"):
        BoxTable(tmp_path, "all", annotations="boxes.csv")
    write_csv(tmp_path / "boxes.csv", [HEADER])
    with pytest.raises(DataError, match="has no rows"):
        open_dataset(f"table:{tmp_path}", "all")


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(delimiter: str, tmp_path: Path) -> None:
    file = table(tmp_path, ["sky.jpg", "cat", 10, 5, 30, 25]) / "boxes.csv"
    file.write_text(file.read_text().replace(",", delimiter))
    assert open_dataset(tmp_path, "all")[0]["boxes"].tolist() == [[10, 5, 30, 25]]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"sky.jpg,1,2,3,4\n1,2,3,4,5\n", "train.csv has no columns of images, classes and corners, but sky.jpg, 1"),
        ("image,class,xmin,ymin,xmax,ymax\nsky.jpg,câ,1,1,5,5\n".encode("latin-1"), "train.csv: it is not in UTF-8"),
    ],
)
def test_a_damaged_table_of_the_split_is_named(content: bytes, problem: str, tmp_path: Path) -> None:
    (table(tmp_path, ["sky.jpg", "cat", 1, 1, 5, 5]) / "boxes.csv").rename(tmp_path / "val.csv")
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(DataError, match=problem):
        open_dataset(tmp_path, "train")
