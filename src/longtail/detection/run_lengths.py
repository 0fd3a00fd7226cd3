"""Predicted masks as COCO run lengths. They are pasted only inside their boxes; no full-size mask is made."""

import math
from typing import Any

import numpy as np
from hotcoco import mask as coco_mask
from jaxtyping import Bool, Float, Int
from torch import Tensor


def encode_masks(
    masks: Float[Tensor, "n h w"], boxes: Float[Tensor, "n 4"], size: tuple[int, int], threshold: float = 0.5
) -> list[dict[str, Any]]:
    """COCO's compressed run lengths of masks pasted into an image.

    Equal to encoding the pasted full-size masks, at the cost of the boxes' own area.

    Args:
        masks: Probabilities, or logits, on a grid over each box.
        boxes: xyxy in pixels of the image.
        size: (height, width) of the image.
        threshold: Pixels of at least this value belong to the mask.
    """
    height, width = size
    # a border of zeros, so that values fade out over the edge as they do in the usual grid sampling
    padded = np.pad(masks.detach().float().cpu().numpy(), ((0, 0), (1, 1), (1, 1)))
    runs = []
    for grid, (x0, y0, x1, y1) in zip(padded, boxes.detach().float().cpu().numpy(), strict=True):
        left, column_cells, column_fractions = _window(x0, x1, width, masks.shape[2])
        top, row_cells, row_fractions = _window(y0, y1, height, masks.shape[1])
        stripes = _interpolated(grid, row_cells, row_fractions)
        inside = _interpolated(np.ascontiguousarray(stripes.T), column_cells, column_fractions) >= threshold
        runs.append({"size": [height, width], "counts": _run_lengths(inside, left, top, size).tolist()})
    compressed = coco_mask.frPyObjects(runs, height, width) if runs else []
    return [{"size": [height, width], "counts": encoded["counts"].decode()} for encoded in compressed]


def _window(low: np.float32, high: np.float32, length: int, cells: int) -> tuple[int, np.ndarray, np.ndarray]:
    """The pixels of a box along one axis, none where it has no extent in the image.

    Args:
        low: Where the box begins, in pixels.
        high: Where it ends.
        length: Pixels of the image.
        cells: Cells of the mask over the box.

    Returns:
        The first pixel; for each pixel the padded cell before its centre, and how far it lies beyond that cell's.
    """
    first, last = (max(0, math.floor(low) - 1), min(length, math.ceil(high) + 1)) if high > low else (0, 0)
    centres = np.arange(first, last, dtype=np.float32) + np.float32(0.5)
    position = ((centres - low) / (high - low) * np.float32(cells) + np.float32(0.5)).clip(0, cells + 1)
    cell = np.minimum(position.astype(np.int64), cells)
    return first, cell, (position - cell).astype(np.float32)


def _interpolated(values: np.ndarray, cells: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Rows between the rows ``cells`` and ``cells + 1`` of the values."""
    between = np.subtract(values[1:], values[:-1]).take(cells, axis=0)
    between *= fractions[:, None]
    between += values.take(cells, axis=0)
    return between


def _run_lengths(
    inside: Bool[np.ndarray, "across down"], left: int, top: int, size: tuple[int, int]
) -> Int[np.ndarray, " runs"]:
    """Lengths of the alternating runs of 0 and 1 of an image, column by column, beginning with 0.

    Args:
        inside: The mask in its window; each row is a column of the image.
        left: First column of the window.
        top: First row of the window.
        size: (height, width) of the image.
    """
    height, width = size
    framed = np.zeros((len(inside), inside.shape[1] + 2), dtype=bool)
    framed[:, 1:-1] = inside
    framed = framed.ravel()
    column, row = np.divmod(np.flatnonzero(framed[1:] != framed[:-1]), inside.shape[1] + 2)
    position = (left + column) * height + top + row
    start, end = position[0::2], position[1::2]
    # a run that ends at the foot of a column and one that begins at the head of the next are one run
    apart = start[1:] != end[:-1]
    edges = np.stack([start[np.append(True, apart)[: len(start)]], end[np.append(apart, True)[: len(end)]]], axis=1)
    lengths = np.diff(edges.ravel(), prepend=0, append=height * width)
    return lengths if lengths[-1] else lengths[:-1]
