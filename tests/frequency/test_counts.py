import json
from pathlib import Path

import numpy as np
import pytest

from longtail.errors import ConfigError, DataError
from longtail.frequency import ClassFrequency


def frequency() -> ClassFrequency:
    return ClassFrequency(
        ("road", "pole", "train"), np.array([5, 3, 0]), np.array([90, 10, 0]), num_images=6, ignored_pixels=7
    )


def test_share_is_over_labelled_pixels_alone():
    assert frequency().share().tolist() == [0.9, 0.1, 0.0]
    assert frequency().share("images").tolist() == [5 / 8, 3 / 8, 0]


def test_json_round_trip_keeps_everything(tmp_path):
    before = ClassFrequency(
        ("a", "b"),
        images=np.array([1, 2]),
        pixels=np.array([2**40, 1]),
        num_images=3,
        ignored_pixels=9,
        fingerprint="f00",
    )
    before.to_json(tmp_path / "f.json")
    after = ClassFrequency.from_json(tmp_path / "f.json")
    assert after.class_names == ("a", "b")
    assert after.pixels.tolist() == [2**40, 1] and after.images.tolist() == [1, 2] and after.instances is None
    assert (after.num_images, after.ignored_pixels, after.fingerprint) == (3, 9, "f00")


def test_dict_round_trip():
    after = ClassFrequency.from_dict(json.loads(json.dumps(frequency().to_dict())))
    assert after.to_dict() == frequency().to_dict()


@pytest.mark.parametrize("pixels", [[1, 2], [1, 2, -3], [[1, 2, 3]]])
def test_wrong_counts_are_refused(pixels):
    with pytest.raises(ConfigError, match="pixels must hold 3 counts"):
        ClassFrequency(("a", "b", "c"), images=np.array([1, 1, 1]), pixels=np.array(pixels))


def test_absent_unit_and_empty_counts_are_refused():
    with pytest.raises(ConfigError, match="no instances"):
        frequency().counts("instances")
    with pytest.raises(DataError, match="no pixels of any class"):
        ClassFrequency(("a",), images=np.array([0]), pixels=np.array([0])).share()


def test_counts_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        frequency().pixels[0] = 1


def test_callers_array_stays_writable_and_apart():
    mine = np.array([1, 2], dtype=np.int64)
    held = ClassFrequency(("a", "b"), images=mine)
    mine[0] = 50
    assert held.images.tolist() == [1, 2]


INCOMPLETE = '{"schema": "longtail-frequency/1", "class_names": ["a"]}'


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "other"}', INCOMPLETE])
def test_foreign_files_are_refused(tmp_path, text):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(DataError, match=r"f\.json"):
        ClassFrequency.from_json(tmp_path / "f.json")
    with pytest.raises(DataError, match=r"none\.json"):
        ClassFrequency.from_json(tmp_path / "none.json")


def test_the_number_of_images_is_kept():
    counted = frequency()
    assert counted.num_images and ClassFrequency.from_dict(counted.to_dict()).num_images == counted.num_images


def test_counts_are_put_in_the_order_of_other_names() -> None:
    frequency = ClassFrequency(("a", "b", "c"), np.array([1, 2, 3]), instances=np.array([4, 5, 6]), num_images=9)
    other = frequency.in_order_of(["c", "a", "b"], "the data")
    assert other.class_names == ("c", "a", "b") and other.num_images == 9 and other.pixels is None
    assert other.images.tolist() == [3, 1, 2] and other.instances.tolist() == [6, 4, 5]
    assert frequency.in_order_of(("a", "b", "c"), "the data") is frequency
    with pytest.raises(ConfigError, match="counts 3 classes, the data has 3; counted only: 'c', only of the data: 'd'"):
        frequency.in_order_of(("a", "b", "d"), "the data")
    with pytest.raises(ConfigError, match="counts 3 classes, the data has 4"):
        frequency.in_order_of(("a", "b", "c", "c"), "the data")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"images": ["1", 2]}, r"images\[0\] is '1', not a whole number"),
        ({"images": [1, 2.5]}, r"images\[1\] is 2.5"),
        ({"images": [1]}, "images are not 2 counts"),
        ({"images": [1, -2]}, "images are not 2 counts"),
        ({"images": [1, 2**63]}, "images are not 2 counts"),
        ({"images": None}, "images is None, not a list of whole numbers"),
        ({"class_names": ["a", None]}, r"class_names\[1\] is None, not a text"),
        ({"class_names": ["a", "a"]}, "counts the class 'a' twice"),
        ({"num_images": "3"}, "num_images is '3'"),
        ({"fingerprint": 3}, "fingerprint is 3"),
    ],
)
def test_values_of_another_type_are_named(change: dict, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    ClassFrequency(("a", "b"), np.array([1, 2])).to_json(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=rf"counts\.json:? {problem}"):
        ClassFrequency.from_json(path)
