"""Pixels next to the boundary of their class, and boundary IoU."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int64, Integer

#: Width of the band along boundaries, as a share of the image's diagonal.
BAND = 0.02


class BandCounts(NamedTuple):
    """Pixels of one image in bands along boundaries.

    Attributes:
        confusion: int64 (C, C), pixels of every (true class, predicted class) in the bands of the truth.
        boundary: int64 (2, C), intersection and union of true and predicted bands of every class.
    """

    confusion: Int64[np.ndarray, "classes classes"]
    boundary: Int64[np.ndarray, "2 classes"]


def band_width(height: int, width: int, share: float = BAND) -> int:
    """Width of the band of an image in pixels, at least 1.

    Source: Cheng et al., "Boundary IoU" (2021), §5.
    """
    return max(1, round(share * math.hypot(height, width)))


def boundary_band(labels: Integer[np.ndarray, "h w"], width: int) -> Bool[np.ndarray, "h w"]:
    """Pixels with another label, or the image's end, at most ``width`` away along both axes.

    It is each class without its erosion by a square of side ``2 width + 1``. A square of one label alone holds no edge
    between neighbours that differ, so that one table of sums serves all classes.

    Args:
        labels: Class ids.
        width: Of the band, in pixels.

    Source: Cheng et al., "Boundary IoU" (2021), Eq. 2 and the authors' ``mask_to_boundary``.
    """
    height, length = labels.shape
    framed = np.full((height + 2, length + 2), -1, dtype=np.int64)
    framed[1:-1, 1:-1] = labels
    across, down = framed[:, 1:] != framed[:, :-1], framed[1:] != framed[:-1]
    # a pixel at (y, x) of the frame looks at rows y-w … y+w and columns x-w … x+w, as far as there are any
    top, bottom = _ends(height, width)
    left, right = _ends(length, width)
    return (_sums(across, top, bottom + 1, left, right) + _sums(down, top, bottom, left, right + 1)) > 0


def count_bands(
    prediction: Integer[np.ndarray, "h w"],
    truth: Integer[np.ndarray, "h w"],
    num_classes: int,
    ignore_index: int,
    share: float = BAND,
) -> BandCounts:
    """Pixels of one image in bands along the boundaries of its labels and of its prediction.

    What is predicted at pixels without a label is no part of any class.

    Args:
        prediction: Class ids 0 … C-1.
        truth: Class ids 0 … C-1 and ``ignore_index``.
        num_classes: Number of classes C.
        ignore_index: Value of pixels without a label.
        share: Width of the bands as a share of the diagonal.
    """
    labelled = truth != ignore_index
    predicted = np.where(labelled, prediction.astype(np.int64), num_classes)
    true = np.where(labelled, truth.astype(np.int64), num_classes)
    width = band_width(truth.shape[0], truth.shape[1], share)
    near, near_predicted = boundary_band(true, width) & labelled, boundary_band(predicted, width) & labelled
    cells = true[near] * num_classes + predicted[near]
    confusion = np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
    both = np.bincount(true[near & near_predicted & (true == predicted)], minlength=num_classes)
    sizes = confusion.sum(axis=1) + np.bincount(predicted[near_predicted], minlength=num_classes)
    return BandCounts(confusion, np.stack([both, sizes - both]))


def _ends(length: int, width: int) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """First and last place in the frame that each pixel looks at."""
    places = np.arange(1, length + 1)
    return np.maximum(places - width, 0), np.minimum(places + width, length + 1)


def _sums(
    marks: np.ndarray, top: np.ndarray, bottom: np.ndarray, left: np.ndarray, right: np.ndarray
) -> Int[np.ndarray, "h w"]:
    """Number of marks in the rows top … bottom-1 and columns left … right-1 of every pixel."""
    table = np.zeros((marks.shape[0] + 1, marks.shape[1] + 1), dtype=np.int32)
    np.cumsum(marks, axis=1, dtype=np.int32, out=table[1:, 1:])
    np.cumsum(table[1:], axis=0, out=table[1:])
    columns = table[:, right] - table[:, left]
    return columns[bottom] - columns[top]
