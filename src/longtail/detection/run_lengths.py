"""Predicted masks as COCO run lengths, pasted only inside their boxes: no full-size mask is ever held."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor


class _Window(NamedTuple):
    """A pasted mask inside its window; ``pixels`` is bool (width, height), column by column as run lengths go."""

    left: int
    top: int
    pixels: np.ndarray


def encode_masks(
    masks: Float[Tensor, "n m m"], boxes: Float[Tensor, "n 4"], size: tuple[int, int], threshold: float = 0.5
) -> list[dict[str, Any]]:
    """COCO's compressed run lengths of masks pasted into an image.

    Equal to encoding the pasted full-size masks, at the cost of the boxes' own area.

    Args:
        masks: Probabilities on a grid over each box.
        boxes: xyxy in pixels of the image.
        size: (height, width) of the image.
        threshold: Pixels of at least this probability belong to the mask.
    """
    height, width = size
    counts = [_run_lengths(window, height, width) for window in _windows(masks, boxes, size, threshold)]
    return [{"size": [height, width], "counts": text} for text in _compress(counts)]


def paste_masks(
    masks: Float[Tensor, "n m m"], boxes: Float[Tensor, "n 4"], size: tuple[int, int], threshold: float = 0.5
) -> Bool[np.ndarray, "n h w"]:
    """The same masks at full size: the plain form, for pictures and tests. Arguments as of ``encode_masks``."""
    pasted = np.zeros((len(boxes), *size), dtype=bool)
    for canvas, window in zip(pasted, _windows(masks, boxes, size, threshold), strict=True):
        columns, rows = window.pixels.shape
        canvas[window.top : window.top + rows, window.left : window.left + columns] = window.pixels.T
    return pasted


def decode_mask(encoded: dict[str, Any]) -> Bool[np.ndarray, "h w"]:
    """The mask of compressed run lengths."""
    height, width = encoded["size"]
    text = encoded["counts"]
    values = np.frombuffer(text.encode() if isinstance(text, str) else text, dtype=np.uint8).astype(np.int64) - 48
    counts: list[int] = []
    number = shift = 0
    for value in values.tolist():
        number |= (value & 31) << shift
        shift += 5
        if not value & 32:
            number -= (1 << shift) if value & 16 else 0
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T


def _windows(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float) -> list[_Window]:
    """Every mask, pasted into the window of its box."""
    # a border of zeros, so that values fade out over the edge as they do in the usual grid sampling
    padded = np.pad(masks.detach().float().cpu().numpy(), ((0, 0), (1, 1), (1, 1)))
    corners = boxes.detach().float().cpu().numpy()
    return [_paste(mask, box, size, threshold) for mask, box in zip(padded, corners, strict=True)]


def _paste(mask: np.ndarray, box: np.ndarray, size: tuple[int, int], threshold: float) -> _Window:
    height, width = size
    left, columns = _axis(box[0], box[2], width, mask.shape[1] - 2)
    top, rows = _axis(box[1], box[3], height, mask.shape[0] - 2)
    if columns is None or rows is None:
        return _Window(0, 0, np.zeros((0, 0), dtype=bool))
    values = _interpolate(mask, *rows)
    values = _interpolate(np.ascontiguousarray(values.T), *columns)
    return _Window(left, top, values >= threshold)


def _axis(
    low: np.floating, high: np.floating, length: int, cells: int
) -> tuple[int, tuple[np.ndarray, np.ndarray] | None]:
    """First pixel of a window along an axis, and for each of its pixels the padded cell before it and the fraction
    beyond that cell's centre; None for an empty window."""
    first, last = max(int(np.floor(low)) - 1, 0), min(int(np.ceil(high)) + 1, length)
    if last <= first or high <= low:
        return 0, None
    centres = np.arange(first, last, dtype=np.float32) + np.float32(0.5)
    position = (centres - low) / (high - low) * np.float32(cells) + np.float32(0.5)
    position = position.clip(0, cells + 1)
    cell = np.minimum(position.astype(np.int64), cells)
    return first, (cell, (position - cell).astype(np.float32))


def _interpolate(values: np.ndarray, cell: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Linear interpolation of the rows of ``values``."""
    before = values[cell]
    return before + (values[cell + 1] - before) * fraction[:, None]


def _run_lengths(window: _Window, height: int, width: int) -> Int[np.ndarray, " k"]:
    """Lengths of the alternating runs of 0 and 1, column by column over the whole image, beginning with 0."""
    columns, rows = window.pixels.shape
    framed = np.zeros((columns, rows + 2), dtype=np.int8)
    framed[:, 1:-1] = window.pixels
    change = np.flatnonzero(np.diff(framed.ravel()))
    column = change // (rows + 2)
    position = (column + window.left) * height + window.top + change - column * (rows + 2)
    start, end = position[0::2], position[1::2]
    # a run that reaches the foot of a column goes on where the next one begins at its head
    apart = start[1:] != end[:-1]
    start = start[np.concatenate([[True], apart])] if len(start) else start
    end = end[np.concatenate([apart, [True]])] if len(end) else end
    edges = np.stack([start, end], axis=1).ravel()
    if len(edges) == 0 or edges[-1] < height * width:
        edges = np.append(edges, height * width)
    return np.diff(edges, prepend=0).astype(np.int64)


def _compress(counts: Sequence[np.ndarray]) -> list[str]:
    """COCO's text form: differences to the count two before, in groups of 5 bits, sign by the last group."""
    if not counts:
        return []
    differences = [np.concatenate([c[:3], c[3:] - c[1:-2]]) for c in counts]
    rest = np.concatenate(differences)
    groups, used = [], []
    alive = np.ones(len(rest), dtype=bool)
    while alive.any():
        bits, rest = rest & 31, rest >> 5
        more = np.where(bits & 16, rest != -1, rest != 0)
        groups.append(np.where(more, bits | 32, bits) + 48)
        used.append(alive)
        alive = alive & more
    characters, used_matrix = np.stack(groups, axis=1).astype(np.uint8), np.stack(used, axis=1)
    lengths = used_matrix.sum(axis=1)
    ends = np.cumsum(np.add.reduceat(lengths, np.cumsum([0] + [len(c) for c in counts[:-1]])))
    text = characters[used_matrix].tobytes().decode("ascii")
    return [text[a:b] for a, b in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]
