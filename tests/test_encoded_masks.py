"""The sum of compressed run lengths against hotcoco's own encoder."""

import numpy as np
import pytest

from longtail.encoded_masks import find_fault


def test_run_lengths_fill_their_image() -> None:
    from hotcoco import mask

    rng = np.random.default_rng(0)
    masks, sizes = [], []
    for seed in range(300):
        size = tuple(rng.integers(1, 90, 2).tolist())
        sizes.append(size)
        pixels = rng.random(size) < (seed % 11) / 10  # none, all, and few to many runs
        masks.append(mask.encode(np.asfortranarray(pixels.astype(np.uint8))))
    assert find_fault(masks, sizes) is None and find_fault([], []) is None
    masks[270]["counts"] = masks[270]["counts"][:-1]
    place, problem = find_fault(masks, sizes)
    assert place == 270 and "cover" in problem


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        ({"size": [3, 4], "counts": ""}, "cover 0 pixels of 12"),
        ({"size": [3, 4], "counts": "zzz~~"}, "cover"),
        ({"size": [3, 4], "counts": "é"}, "cover"),
        ({"size": [3, 4], "counts": [5, 5]}, "cover 10 pixels of 12"),
        ({"size": [3, 4], "counts": [-1, 13]}, "no whole number"),
        ({"size": [4, 3], "counts": [12]}, r"of size \[4, 3\], its image of \[3, 4\]"),
        ({"size": [3, 4]}, "run lengths are"),
        ({"size": ["a", 4], "counts": [12]}, "run lengths are"),
        ([[0, 0, 3, 3]], "polygons of 4 numbers"),
        ([[0, 0, 3, 0, 3]], "polygons of 5 numbers"),
        ([[]], "polygons of 0 numbers"),
        ([[0, 0, 3, 0, 3, "3"]], "a polygon holds '3'"),
        ([[0, 0, 3, 0, 3, None]], "a polygon holds None"),
        ([[0, 0, 3, 0, 3, float("nan")]], "a polygon holds nan"),
        ([[0, 0, 3, 0, 3, 10**30]], "a polygon holds 1000"),
        ([0, 0, 3, 0, 3, 3], "neither"),
        (None, "neither"),
    ],
)
def test_what_is_no_mask(mask: object, problem: str) -> None:
    import re

    place, found = find_fault([[[0, 0, 3, 0, 3, 3], [1, 1]], mask], [(3, 4), (3, 4)])
    assert place == 1 and re.search(problem, found)
