from pathlib import Path

import pytest

from longtail.datasets import open_dataset
from longtail.datasets.voc import Voc
from longtail.errors import ConfigError, DataError
from longtail.frequency.count_instances import count_instances
from support.detection_layouts import photo, voc, voc_xml


def single(root: Path, text: str) -> Path:
    photo(root / "JPEGImages" / "sky.jpg", "sky")
    (root / "Annotations").mkdir()
    (root / "Annotations" / "sky.xml").write_text(text)
    return root


def test_difficult_objects_are_crowd(tmp_path: Path) -> None:
    voc(tmp_path, difficult=True)
    data = open_dataset(tmp_path, "train")
    assert data[0]["crowd"].tolist() == [False, True] and "2 difficult objects" in data.note
    assert count_instances(data).instances.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("word", "crowd"), [("", False), ("0", False), ("False", False), ("1", True), (" true ", True)]
)
def test_difficult_as_tools_write_it(word: str, crowd: bool, tmp_path: Path) -> None:
    box = BOX.format(1) + f"<difficult>{word}</difficult>"
    single(tmp_path, f"<annotation>{OBJECT.format('cat', box)}</annotation>")
    assert Voc(tmp_path, "all")[0]["crowd"].tolist() == [crowd]


def test_pixels_or_edges_is_decided_by_all_files(tmp_path: Path) -> None:
    voc(tmp_path)  # counted from 1: the box of sea.jpg begins at 1
    assert open_dataset(tmp_path, "val")[1]["boxes"].tolist() == [[0, 0, 30, 40]]
    voc(tmp_path / "edges", shift=0)
    data = open_dataset(tmp_path / "edges", "val")
    assert data[1]["boxes"].tolist() == [[0, 0, 30, 40]] and "boxes are edges" in data.note


def test_without_lists_and_sizes(tmp_path: Path) -> None:
    single(tmp_path, voc_xml("sky", size=False))
    data = open_dataset(tmp_path, "all")
    assert data[0]["boxes"].tolist() == [[10, 5, 30, 25], [40, 20, 90, 50]]
    with pytest.raises(DataError, match="has no splits, so no split 'test'"):
        open_dataset(tmp_path, "test")


OBJECT = "<object><name>{}</name>{}</object>"
BOX = "<bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        (OBJECT.format("cat", ""), "'cat' of .*sky.xml has no <bndbox>"),
        (OBJECT.format("cat", "<robndbox><cx>1</cx></robndbox>"), "has no <bndbox>"),
        (OBJECT.format("", BOX.format(1)), "has no <name>"),
        (OBJECT.format("cat", BOX.format("x")), "xmin 'x', no number"),
        (OBJECT.format("cat", BOX.format("nan")), "xmin 'nan', no number"),
        (OBJECT.format("cat", BOX.format(30)), "has the box"),
        (OBJECT.format("cat", BOX.format(1).replace("ymax", "top")), "ymax None"),
        (OBJECT.format("cat", BOX.format(1) + "<difficult>maybe</difficult>"), "has the difficult 'maybe'"),
        ("<object>", "cannot read .*sky.xml"),
    ],
)
def test_files_that_are_refused(objects: str, words: str, tmp_path: Path) -> None:
    single(tmp_path, f"<annotation>{objects}</annotation>")
    with pytest.raises(DataError, match=words):
        Voc(tmp_path, "all")


def test_another_kind_of_file(tmp_path: Path) -> None:
    single(tmp_path, "<svg/>")
    with pytest.raises(DataError, match="holds <svg>, no <annotation>"):
        Voc(tmp_path, "all")


def test_lists_that_name_what_is_not_there(tmp_path: Path) -> None:
    voc(tmp_path)
    base = tmp_path / "VOCdevkit/VOC2012"
    with pytest.raises(DataError, match="no split 'test'"):
        Voc(tmp_path, "test")
    (base / "ImageSets/Main/train.txt").write_text("cloud\n")
    with pytest.raises(DataError, match=r"lists cloud, which .* has no XML file of"):
        Voc(tmp_path, "train")
    (base / "ImageSets/Main/train.txt").write_text("\n")
    with pytest.raises(DataError, match="lists no images"):
        Voc(tmp_path, "train")
    with pytest.raises(ConfigError, match="no option annotations"):
        Voc(tmp_path, "train", annotations="x.xml")


def test_several_data_sets(tmp_path: Path) -> None:
    for year in ("VOC2007", "VOC2012"):
        single(tmp_path / year, voc_xml("sky"))
    with pytest.raises(DataError, match="several data sets: VOC2007, VOC2012"):
        Voc(tmp_path, "all")
