import re
from pathlib import Path

import pytest

from longtail.datasets.splits import in_split, parting_note
from longtail.errors import ConfigError, DataError

SOURCE = Path("data/boxes.json")


def test_sides_are_disjoint_and_complete() -> None:
    names = [f"image {i}" for i in range(200)]
    train, val = (in_split(names, split, SOURCE) for split in ("train", "val"))
    assert [not t for t in train] == val and 20 < sum(val) < 60
    assert all(in_split(names, "all", SOURCE)) and all(in_split(names, None, SOURCE))


def test_an_image_keeps_its_side() -> None:
    names = [f"image {i}" for i in range(50)]
    before = dict(zip(names, in_split(names, "val", SOURCE, val_share=0.4), strict=True))
    fewer = names[::3]
    assert in_split(fewer, "val", SOURCE, val_share=0.4) == [before[name] for name in fewer]
    more = in_split(names, "val", SOURCE, val_share=0.6)
    assert all(now for now, then in zip(more, before.values(), strict=True) if then)


def test_a_video_is_on_one_side() -> None:
    names = [f"video_{v}_frame_{f}" for v in range(40) for f in range(5)]
    val = in_split(names, "val", SOURCE, split_by=r"video_(\d+)")
    sides = {name.rpartition("_frame")[0]: set() for name in names}
    for name, is_val in zip(names, val, strict=True):
        sides[name.rpartition("_frame")[0]].add(is_val)
    assert all(len(side) == 1 for side in sides.values()) and {True} in sides.values() and {False} in sides.values()
    # the first group is the key, not the match: another frame number is the same video
    assert in_split(["video_3_frame_1"], "all", SOURCE, split_by=r"video_(\d+)_frame_\d") == [True]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"split": "test"}, DataError, "no split 'test'"),
        ({"split": "val", "val_share": 0}, DataError, "none of the 2 images"),
        ({"split": "val", "val_share": 1.5}, ConfigError, "val_share is 1.5"),
        ({"split": "val", "split_by": "("}, ConfigError, "no regular expression"),
        ({"split": "val", "split_by": "video"}, DataError, "1 of the 2 images of data/boxes.json have no match"),
    ],
)
def test_refusals(arguments: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=re.escape(words)):
        in_split(["video 1", "b"], **{"source": SOURCE, **arguments})


def test_note() -> None:
    assert parting_note(SOURCE, 0.1, None) == (
        "data/boxes.json has no splits: by the hash of its name, an image is val (10%) or train"
    )
    assert r"what 'video_(\d+)' finds" in parting_note(SOURCE, 0.1, r"video_(\d+)")
