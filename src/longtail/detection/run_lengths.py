"""Predicted masks as COCO run lengths, pasted only inside their boxes: no full-size mask is ever held."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

_PIXELS_AT_ONCE = 2**19  # of windows that are pasted together; a larger one is pasted alone


class _Axis(NamedTuple):
    """The windows of some boxes along one axis; ``cell`` and ``fraction`` hold one pixel after the other."""

    first: np.ndarray  # (n,) first pixel
    length: np.ndarray  # (n,) pixels
    cell: np.ndarray  # padded cell before each pixel's centre
    fraction: np.ndarray  # how far the centre lies beyond that cell's centre

    @property
    def owner(self) -> np.ndarray:
        """Number of the box of each pixel."""
        return np.repeat(np.arange(len(self.length)), self.length)


class _Windows(NamedTuple):
    """Some masks, pasted into the windows of their boxes."""

    columns: _Axis
    rows: _Axis
    framed: np.ndarray  # flat bool, column by column as run lengths go, each between two pixels of 0
    offsets: np.ndarray  # (n + 1,) where each window begins in ``framed``


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
    texts = [
        text
        for windows in _windows(masks, boxes, size, threshold)
        for text in _compress(*_run_lengths(windows, height, width))
    ]
    return [{"size": [height, width], "counts": text} for text in texts]


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


def _windows(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float) -> Iterator[_Windows]:
    """All masks in the windows of their boxes, as many at a time as make ``_PIXELS_AT_ONCE``."""
    # a border of zeros, so that values fade out over the edge as they do in the usual grid sampling
    padded = np.pad(masks.detach().float().cpu().numpy(), ((0, 0), (1, 1), (1, 1)))
    x0, y0, x1, y1 = boxes.detach().float().cpu().numpy().T
    left, across = _spans(x0, x1, size[1])
    top, down = _spans(y0, y1, size[0])
    across, down = np.where(down > 0, across, 0), np.where(across > 0, down, 0)
    pieces = np.cumsum(across * down) // _PIXELS_AT_ONCE
    cuts = [*np.flatnonzero(np.diff(pieces, prepend=-1)).tolist(), len(padded)]
    for start, stop in itertools.pairwise(cuts):
        part = slice(start, stop)
        columns = _axis(x0[part], x1[part], left[part], across[part], masks.shape[2])
        rows = _axis(y0[part], y1[part], top[part], down[part], masks.shape[1])
        yield _paste(padded[part], columns, rows, threshold)


def _spans(low: np.ndarray, high: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel and number of pixels of every window along an axis; none where a box has no extent in the image."""
    first = np.clip(np.floor(low) - 1, 0, length).astype(np.int64)
    last = np.clip(np.ceil(high) + 1, 0, length).astype(np.int64)
    return first, np.where(high > low, np.maximum(last - first, 0), 0)


def _axis(low: np.ndarray, high: np.ndarray, first: np.ndarray, length: np.ndarray, cells: int) -> _Axis:
    """Where the pixels of every window lie among the cells of its mask."""
    skipped = np.cumsum(length) - length - first
    centres = (np.arange(length.sum()) - np.repeat(skipped, length)).astype(np.float32) + np.float32(0.5)
    position = (centres - np.repeat(low, length)) / np.repeat(high - low, length) * np.float32(cells) + np.float32(0.5)
    position = position.clip(0, cells + 1)
    cell = np.minimum(position.astype(np.int64), cells)
    return _Axis(first, length, cell, (position - cell).astype(np.float32))


def _paste(padded: np.ndarray, columns: _Axis, rows: _Axis, threshold: float) -> _Windows:
    """Interpolate along the rows of all windows together, then along the columns of each."""
    side = padded.shape[2]
    place = rows.owner * padded.shape[1] + rows.cell
    cells = padded.reshape(-1, side)
    before = cells[place]
    values = before + (cells[place + 1] - before) * rows.fraction[:, None]
    offsets = np.concatenate([[0], np.cumsum(columns.length * (rows.length + 2))])
    framed = np.zeros(offsets[-1], dtype=bool)
    row = column = 0
    for across, down, begin, end in zip(
        columns.length.tolist(), rows.length.tolist(), offsets.tolist(), offsets[1:].tolist(), strict=False
    ):
        if not across:
            continue
        at = slice(column, column + across)
        stripes = np.ascontiguousarray(values[row : row + down].T)
        steps = np.subtract(stripes[1:], stripes[:-1]).take(columns.cell[at], axis=0)
        steps *= columns.fraction[at, None]
        steps += stripes.take(columns.cell[at], axis=0)
        np.greater_equal(steps, threshold, out=framed[begin:end].reshape(across, down + 2)[:, 1:-1])
        row, column = row + down, column + across
    return _Windows(columns, rows, framed, offsets)


def _run_lengths(windows: _Windows, height: int, width: int) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " n"]]:
    """Lengths of the alternating runs of 0 and 1 of one image after the other, column by column, each image beginning
    with 0; and how many runs each image has."""
    columns, rows, framed, offsets = windows
    change = np.flatnonzero(framed[1:] != framed[:-1])
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(np.searchsorted(change, offsets)))
    inside = change - offsets[owner]
    column = inside // (rows.length[owner] + 2)
    # in the pixels of all images, one after the other
    area = height * width
    position = owner * area + (column + columns.first[owner]) * height
    position += rows.first[owner] + inside - column * (rows.length[owner] + 2)
    start, end, owner = position[0::2], position[1::2], owner[0::2]
    # a run that reaches the foot of a column goes on where the next one begins at its head
    apart = (start[1:] != end[:-1]) | (owner[1:] != owner[:-1])
    first = np.concatenate([[True], apart])[: len(start)]
    edges = np.stack([start[first], end[np.concatenate([apart, [True]])[: len(end)]]], axis=1).ravel()
    numbers = 2 * np.bincount(owner[first], minlength=len(offsets) - 1)
    # each image ends with a run of 0, unless its last pixel is 1
    last, finish = np.cumsum(numbers), area * np.arange(1, len(offsets))
    open_ = np.append(-1, edges)[last] != finish
    return np.diff(np.insert(edges, last[open_], finish[open_]), prepend=0), numbers + open_


def _compress(counts: np.ndarray, numbers: np.ndarray) -> list[str]:
    """COCO's text form: differences to the count two before, in groups of 5 bits, sign by the last group.

    Args:
        counts: Run lengths of one mask after the other.
        numbers: How many each mask has, at least one.
    """
    begin = np.cumsum(numbers) - numbers
    rest = counts.copy()
    rest[2:] -= counts[:-2]
    for place in range(3):  # the first three stand as they are
        some = begin[numbers > place] + place
        rest[some] = counts[some]
    groups, used = [], []
    alive = np.ones(len(rest), dtype=bool)
    while alive.any():
        bits, rest = rest & 31, rest >> 5
        more = np.where(bits & 16, rest != -1, rest != 0)
        groups.append(np.where(more, bits | 32, bits) + 48)
        used.append(alive)
        alive = alive & more
    characters, used_matrix = np.stack(groups, axis=1).astype(np.uint8), np.stack(used, axis=1)
    ends = np.cumsum(np.add.reduceat(used_matrix.sum(axis=1), begin)).tolist()
    text = characters[used_matrix].tobytes().decode("ascii")
    return [text[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
