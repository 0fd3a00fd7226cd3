from pathlib import Path

import numpy as np
import pytest

from longtail.datasets.class_files import find_class_file, read_class_file, voc_classes, voc_colours
from longtail.errors import ConfigError, DataError


def file(tmp_path, name, text, encoding="utf-8"):
    path = tmp_path / name
    path.write_text(text, encoding=encoding)
    return path


def test_labelmap(tmp_path):
    path = file(tmp_path, "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,0,1::\n\n")
    read = read_class_file(path)
    assert read.names == ("background", "road") and read.colours == ((0, 0, 0), (128, 0, 1))
    labels = read.label_format(255)
    assert labels.palettes and labels.table is None
    assert labels.colours == {(224, 224, 192): 255, (0, 0, 0): 0, (128, 0, 1): 1}


def test_class_dict_and_ignored_classes(tmp_path):
    path = file(tmp_path, "class_dict.csv", 'name, r, g, b\nSky,1,2,3\nVoid,0,0,0\n"Car, old",9,9,9\n')
    read = read_class_file(path)
    assert read.names == ("Sky", "Void", "Car, old") and read.coloured
    assert read.classes(["Void"]).names == ("Sky", "Car, old")
    labels = read.label_format(255, ["Void"])
    assert labels.table[[0, 1, 2, 255]].tolist() == [0, 255, 1, 255] and labels.table[3] == -1
    with pytest.raises(ConfigError, match="'void'"):
        read.classes(["void"])
    with pytest.raises(ConfigError, match="all classes"):
        read.classes(["Sky", "Void", "Car, old"])


def test_roboflow_classes_have_values(tmp_path):
    read = read_class_file(file(tmp_path, "_classes.csv", "Pixel Value, Class\n0, background\n3, crack\n"))
    assert read.names == ("background", "crack") and read.values == (0, 3)
    table = read.label_format(255).table
    assert table[[0, 3, 255]].tolist() == [0, 1, 255] and (np.delete(table, [0, 3, 255]) == -1).all()


def test_byte_order_marks_are_no_names(tmp_path):
    assert read_class_file(file(tmp_path, "classes.txt", "sky\nsea\n", "utf-8-sig")).names == ("sky", "sea")
    for encoding in ("utf-16", "latin-1"):
        with pytest.raises(DataError, match=r"classes\.txt: it is not in UTF-8"):
            read_class_file(file(tmp_path, "classes.txt", "Gebäude\n", encoding))


def test_pascal_voc_is_known():
    assert voc_colours(256)[-1] == (224, 224, 192) and voc_colours(4)[1:] == ((128, 0, 0), (0, 128, 0), (128, 128, 0))
    labels = voc_classes(Path("VOC2012")).label_format(255)
    assert not labels.palettes and labels.colours[(224, 224, 192)] == 255 and len(labels.colours) == 22


def test_the_first_file_is_found(tmp_path):
    (tmp_path / "train").mkdir()
    inner = file(tmp_path / "train", "_classes.csv", "")
    assert find_class_file([tmp_path, tmp_path / "train"]) == inner
    outer = file(tmp_path, "classes.txt", "a")
    assert find_class_file([tmp_path, tmp_path / "train"]) == outer
    assert find_class_file([]) is None


@pytest.mark.parametrize(
    "name, text, named",
    [
        ("labelmap.txt", "road:1,2:::", "not 1 colours"),
        ("labelmap.txt", "road:red::", "line 1 .*'road:red::'"),
        ("labelmap.txt", "a:1,2,3::\nb:1,2,3::", "one colour"),
        ("class_dict.csv", "name,r,g\na,1,2", "has the columns name, r, g"),
        ("class_dict.csv", "name,r,g,b\na,1,2,300", "palette"),
        ("class_dict.csv", "name,r,g,b\n\na,1,2", "line 3 .*'a,1,2'"),
        ("class_dict.csv", "", "has the columns none"),
        ("_classes.csv", "Pixel Value, Class\n0, a\n0, b", "not distinct"),
        ("_classes.csv", "Pixel Value, Class\n0, a\n2,", "not distinct"),
        ("_classes.csv", "Pixel Value, Class\n0, " + "a" * 200_000, "cannot read classes"),
        ("_classes.csv", "Pixel Value, Class\nx, a", "line 2 .*'x,a'"),
        ("classes.json", '{"names": ["a"], "ignore_index": "255"}', "ignore_index"),
        ("classes.json", '{"names": ["a"], "palette": 3}', "palette"),
        ("classes.json", '{"names": ["a", null]}', "name None"),
        ("classes.json", '{"names": ["a", "a"]}', "name 'a' to the classes 0, 1"),
        ("classes.txt", "\n", "no class names"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, name, text, named):
    path = file(tmp_path, name, text)
    with pytest.raises(DataError, match=named) as refusal:
        read_class_file(path).label_format(255)
    assert str(path) in refusal.value.problem
