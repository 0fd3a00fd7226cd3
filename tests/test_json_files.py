from typing import Any, Literal, NotRequired, TypedDict

import pytest

from longtail.errors import DataError
from longtail.json_files import check_kind


class Record(TypedDict):
    name: str
    counts: list[int]
    share: NotRequired[float | None]
    nested: NotRequired[dict[str, list[float | None]]]
    task: NotRequired[Literal["a", "b"]]
    free: NotRequired[Any]


def test_values_of_their_kinds_pass() -> None:
    for more in ({}, {"share": 1}, {"share": None, "nested": {"x": [1.5, None, 2]}}, {"task": "b", "free": [{}]}):
        value = {"name": "n", "counts": [1, 2], "unknown": object(), **more}
        assert check_kind(value, Record, "f.json", "fix") is value


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": 3}, "name is 3, not a text"),
        ({"counts": [1, 2.5]}, r"counts\[1\] is 2.5, not a whole number"),
        ({"counts": [True]}, r"counts\[0\] is True, not a whole number"),
        ({"counts": "12"}, "counts is '12', not a list of whole numbers"),
        ({"share": "1"}, "share is '1', not a number or null"),
        ({"nested": {"x": [1, "2"]}}, r"nested\.x\[1\] is '2', not a number or null"),
        ({"nested": {"x": 1}}, r"nested\.x is 1, not a list"),
        ({"nested": [1]}, r"nested is \[1\], not an object"),
        ({"task": "c"}, "task is 'c', not one of 'a', 'b'"),
    ],
)
def test_names_the_key_of_another_type(change: dict, problem: str) -> None:
    with pytest.raises(DataError, match=f"f.json: {problem}"):
        check_kind({"name": "n", "counts": [1], **change}, Record, "f.json", "fix")


def test_names_what_is_missing() -> None:
    with pytest.raises(DataError, match=r"f\.json lacks 'counts'"):
        check_kind({"name": "n"}, Record, "f.json", "fix")
    with pytest.raises(DataError, match=r"f\.json: the content is \[\], not an object"):
        check_kind([], Record, "f.json", "fix")
