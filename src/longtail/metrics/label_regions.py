"""Where in which images a class fails: the largest regions of wrong pixels, kept small."""

import heapq
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Integer

_EACH = 4  # regions of each sort and class
_SIDE = 192  # pixels of the longer side of a stored region
_LEAST = 16  # pixels


@dataclass(frozen=True)
class Region:
    """Wrong pixels of one class in one image.

    Args:
        image: Name of the image.
        label: The class.
        sort: ``missed``: pixels of the class that are called another one; ``false positive``: those that are called it.
        other: The class that most of them are called, or are.
        pixels: Their number.
        box: left, top, right, bottom of the rectangle that holds them.
        inside: bool, the rectangle at most ``_SIDE`` pixels long.
    """

    image: str
    label: int
    sort: str
    other: int
    pixels: int
    box: tuple[int, int, int, int]
    inside: Bool[np.ndarray, "rows columns"]


class _Entry(NamedTuple):
    rank: tuple[int, str]
    region: Region


class LargestRegions:
    """Keeps the largest regions of each sort and class, of any number of images."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], list[_Entry]] = {}

    def add(self, regions: list[Region]) -> None:
        """Take the regions of one image."""
        for region in regions:
            heap = self._kept.setdefault((region.label, region.sort), [])
            entry = _Entry((region.pixels, region.image), region)
            (heapq.heappush if len(heap) < _EACH else heapq.heappushpop)(heap, entry)

    def merge(self, others: list["LargestRegions"]) -> None:
        """Replace what was kept by the largest of these."""
        kept = [entry.region for other in others for heap in other._kept.values() for entry in heap]
        self._kept = {}
        self.add(kept)

    def of(self, label: int, sort: str) -> list[Region]:
        """Regions of a class, the largest first."""
        return [entry.region for entry in sorted(self._kept.get((label, sort), []), reverse=True)]


def wrong_regions(
    name: str, prediction: Integer[np.ndarray, "h w"], truth: Integer[np.ndarray, "h w"], ignore_index: int
) -> list[Region]:
    """Wrong pixels of every class of one image, by what they are and by what they are called."""
    wrong = (truth != ignore_index) & (prediction != truth)
    found = []
    for sort, mine, theirs in (("missed", truth, prediction), ("false positive", prediction, truth)):
        for label in np.unique(mine[wrong]).tolist():
            found += _region(name, sort, label, wrong & (mine == label), theirs)
    return found


def _region(name: str, sort: str, label: int, pixels: np.ndarray, theirs: np.ndarray) -> list[Region]:
    number = int(np.count_nonzero(pixels))
    if number < _LEAST:
        return []
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    part = pixels[box[1] : box[3], box[0] : box[2]]
    step = -(-max(part.shape) // _SIDE)
    values, counts = np.unique(theirs[pixels], return_counts=True)
    return [Region(name, label, sort, int(values[counts.argmax()]), number, box, part[::step, ::step].copy())]
