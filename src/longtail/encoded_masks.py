"""Masks as COCO-style files have them: polygons, compressed or uncompressed run lengths."""

from collections.abc import Sequence
from typing import Any

import numpy as np

#: Fewest numbers of a polygon: x and y of three points. Anything less encloses nothing.
POLYGON = 6
_FAR = 1e9  # pixels; larger than any distance within an image; NaN does not compare as smaller
_PIECE = 256  # texts taken apart at once


def find_fault(masks: Sequence[Any], sizes: Sequence[tuple[int, int] | None]) -> tuple[int, str] | None:
    """Index and problem of the first mask that is none; None where all are valid.

    hotcoco itself fills run lengths that end too early, takes any text for run lengths, and four numbers for a box.

    Args:
        masks: Polygons or run lengths, as the file has them.
        sizes: (h, w) of the image of each mask; None where it is not known.
    """
    texts, places, expected = [], [], []
    for place, (mask, size) in enumerate(zip(masks, sizes, strict=True)):
        if fault := _fault(mask, size):
            return place, fault
        if isinstance(mask, dict) and isinstance(mask["counts"], (str, bytes)):
            counts = mask["counts"]
            texts.append(counts.encode() if isinstance(counts, str) else counts)
            places.append(place)
            expected.append(mask["size"][0] * mask["size"][1])
    pieces = (_covered(texts[start : start + _PIECE]) for start in range(0, len(texts), _PIECE))
    covered = [pixels for piece in pieces for pixels in piece.tolist()]
    for place, pixels, covers in zip(places, expected, covered, strict=True):
        if covers != pixels:
            return place, _short(covers, pixels)
    return None


def as_run_lengths(mask: Any, size: Any) -> dict[str, Any]:
    """A mask of an image as compressed run lengths; polygons of less than three points enclose nothing.

    Args:
        mask: Polygons or run lengths without a fault.
        size: (h, w) of the image, for polygons.
    """
    from hotcoco import mask as masks

    if isinstance(mask, dict):
        return mask if isinstance(mask["counts"], (str, bytes)) else masks.frPyObjects(mask, *mask["size"])
    return masks.merge(masks.frPyObjects([polygon for polygon in mask if len(polygon) >= POLYGON], *size))


def text_mask(mask: Any) -> Any:
    """Run lengths as JSON can hold them."""
    if isinstance(mask, dict) and isinstance(mask["counts"], bytes):
        return {**mask, "counts": mask["counts"].decode()}
    return mask


def _fault(mask: Any, size: tuple[int, int] | None) -> str | None:
    """Problem of a mask, without checking the sum of compressed run lengths."""
    if isinstance(mask, dict):
        own: Any = mask.get("size")
        counts = mask.get("counts")
        if not (_is_size(own) and isinstance(counts, (str, bytes, list))):
            return "run lengths are {size: [height, width], counts: text or list}"
        if size is not None and tuple(own) != tuple(size):
            return f"the mask is of size {list(own)}, its image of {list(size)}"
        if isinstance(counts, list):
            if not all(isinstance(count, int) and count >= 0 for count in counts):
                return "a run length is no whole number of pixels"
            return None if sum(counts) == own[0] * own[1] else _short(sum(counts), own[0] * own[1])
        return None
    if not isinstance(mask, list) or not all(isinstance(polygon, list) for polygon in mask):
        return f"{str(mask)[:40]} is neither polygons nor run lengths"
    if not any(len(polygon) >= POLYGON for polygon in mask) or any(len(polygon) % 2 for polygon in mask):
        return f"polygons of {', '.join(str(len(polygon)) for polygon in mask) or 'no'} numbers"
    for polygon in mask:
        if set(map(type, polygon)) - {int, float} or not all(-_FAR < number < _FAR for number in polygon):
            return (
                f"a polygon holds {next(n for n in polygon if type(n) not in (int, float) or not -_FAR < n < _FAR)!r}"
            )
    return None


def _is_size(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(side, int) for side in value)


def _short(covered: int, pixels: int) -> str:
    return f"the run lengths cover {covered} pixels of {pixels}"


def _covered(texts: Sequence[bytes]) -> np.ndarray:
    """Pixels that compressed run lengths cover, int64 (n,).

    Six bits a character: five of the number, lowest first, and whether more follow; the fourth run and those after it
    are the difference to the run before the last. Source: pycocotools' ``rleFrString``.
    """
    code = np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.int64) - 48
    length = np.array([len(text) for text in texts], dtype=np.int64)
    last = (code & 32) == 0
    last[np.cumsum(length)[length > 0] - 1] = True
    ends = np.flatnonzero(last)
    digits = np.diff(ends, prepend=-1)
    place = np.arange(len(code)) - np.repeat(ends - digits + 1, digits)
    terms = (code & 31) << np.minimum(5 * place, 60)
    value = np.add.reduceat(terms, ends - digits + 1) if len(ends) else terms
    value -= np.where(code[ends] & 16, 1 << np.minimum(5 * digits, 60), 0)
    owner = np.repeat(np.arange(len(texts)), length)[ends]
    runs = np.bincount(owner, minlength=len(texts))
    run = np.arange(len(ends)) - (np.cumsum(runs) - runs)[owner]
    repeats = np.where(run == 0, 1, (runs[owner] - 1 - run) // 2 + 1)  # this run and all that are told from it
    return np.bincount(owner, value * repeats, len(texts)).astype(np.int64)
