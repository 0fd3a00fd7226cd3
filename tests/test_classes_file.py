import json
from pathlib import Path

import pytest

from longtail.classes_file import ClassesFile, read_classes_file
from longtail.errors import DataError


def test_names_one_a_line_whatever_the_line_ends(tmp_path: Path) -> None:
    for text in ("a\nb b\n\n", "a\r\n b b \r\n", "\ufeffa\nb b"):
        (tmp_path / "classes.txt").write_bytes(text.encode())
        assert read_classes_file(tmp_path / "classes.txt") == ClassesFile(("a", "b b"))


def test_json_with_names_palette_and_ignored_value(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({"names": ["a", "b"], "palette": [[0, 1, 2], [3, 4, 5]], "ignore_index": 7, "x": None}))
    assert read_classes_file(path) == ClassesFile(("a", "b"), ((0, 1, 2), (3, 4, 5)), 7)
    path.write_text("\ufeff" + json.dumps(["a"]))
    assert read_classes_file(path) == ClassesFile(("a",))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
@pytest.mark.parametrize("name", ["classes.json", "classes.txt"])
def test_other_encodings_are_refused(name: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(json.dumps(["café"], ensure_ascii=False), encoding=encoding)
    with pytest.raises(DataError, match=rf"{name}: it is not in UTF-8\n.*save it as UTF-8"):
        read_classes_file(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (["a", "b", "a"], "gives the name 'a' to the classes 0, 2"),
        (["a", None], "class 1 of .* has the name None, no text"),
        (["a", 3], "class 1 of .* has the name 3, no text"),
        (["a", " ", "b"], "class 1 of .* has no name"),
        ([], "no class names"),
        ({}, "no list of names"),
        ({"names": "a"}, "no list of names"),
        ("a", "the content is 'a', not an object"),
        ({"names": ["a"], "ignore_index": "255"}, "ignore_index is '255', not a whole number or null"),
        ({"names": ["a"], "ignore_index": True}, "ignore_index is True"),
        ({"names": ["a"], "palette": [[0, 1]]}, "not 1 colours of three values"),
        ({"names": ["a"], "palette": [[0, 1, 256]]}, "not 1 colours"),
        ({"names": ["a"], "palette": [[0, 1, "2"]]}, r"palette\[0\]\[2\] is '2', not a whole number"),
        ({"names": ["a"], "palette": 3}, "palette is 3, not a list"),
    ],
)
def test_refuses_what_are_no_classes(content: object, problem: str, tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=problem):
        read_classes_file(tmp_path / "classes.json")


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read class names from .*none\.txt"):
        read_classes_file(tmp_path / "none.txt")
    for text in ("{", "[" * 100_000, "1" * 5000):
        (tmp_path / "classes.json").write_text(text)
        with pytest.raises(DataError, match=r"cannot read class names from .*classes\.json"):
            read_classes_file(tmp_path / "classes.json")
