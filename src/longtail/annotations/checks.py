"""Checks of the records of annotation and detection files: ids, boxes and numbers, a whole column at a time."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from longtail.errors import DataError

#: Largest id.
MAX_ID = 2**63 - 1
_FARTHEST = 2**31  # pixels
_EXACT = 2**53  # beyond it, floats skip whole numbers
_SHOWN = 60  # characters of a value that an error repeats


def records_of(content: Any, key: str, source: object, fix: str, *, needed: bool = True) -> list[dict[str, Any]]:
    """The list of objects under a key; an empty one where there is no such key and none is needed.

    Raises:
        DataError: There is another value, or none.
    """
    records = content.get(key) if needed else content.get(key, [])
    if not isinstance(records, list):
        found = f"holds {type(records).__name__} as {key!r}, no list" if key in content else f"lacks {key!r}"
        raise DataError(f"{source} {found}", fix=fix)
    check_records(records, key, source, fix)
    return records


def check_records(records: list[Any], name: str, source: object, fix: str) -> None:
    """Refuse a list that holds anything but objects."""
    if set(map(type, records)) - {dict}:
        place = next(i for i, record in enumerate(records) if type(record) is not dict)
        raise DataError(f"{name}[{place}] of {source} is {shown(records[place])}, no object", fix=fix)


def column(records: Sequence[dict[str, Any]], key: str, name: str, source: object, fix: str) -> list[Any]:
    """What every record has under a key.

    Raises:
        DataError: A record has no such key; names it.
    """
    try:
        return [record[key] for record in records]
    except KeyError as error:
        place = next(i for i, record in enumerate(records) if key not in record)
        raise DataError(f"{name}[{place}] of {source} has no {key}", fix=fix) from error


def whole_numbers(source: object, name: str, records: Sequence[dict[str, Any]], key: str, fix: str) -> np.ndarray:
    """What the records of a list have under a key, int64: whole numbers from 0 to 2^63 - 1, and never by way of floats.

    Args:
        source: File of the records, for errors.
        name: Their name in the file.
        records: Any.
        key: Key of the numbers.
        fix: The way out.

    Raises:
        DataError: A record lacks the key, or has another value, such as text; the record is named.
    """
    values = column(records, key, name, source, fix)
    if set(map(type, values)) - {int}:
        values = [int(v) if type(v) is float and v.is_integer() and abs(v) < _EXACT else v for v in values]
    try:
        numbers = np.array(values, dtype=np.int64) if not set(map(type, values)) - {int} else None
    except OverflowError:
        numbers = None
    if numbers is not None and (numbers >= 0).all():
        return numbers
    place = next(i for i, v in enumerate(values) if type(v) is not int or not 0 <= v <= MAX_ID)
    large = type(values[place]) is int and values[place] > MAX_ID
    what = f"which is above {MAX_ID} (2^63 - 1)" if large else "no whole number from 0 on"
    raise DataError(f"{name}[{place}] of {source} has the {key} {shown(records[place][key])}, {what}", fix=fix)


def finite_numbers(values: Sequence[Any]) -> tuple[np.ndarray, int | None]:
    """Numbers as float64, and the place of the first value that is no finite number; None where all are."""
    if not set(map(type, values)) - {int, float}:
        try:
            numbers = np.array(values, dtype=np.float64)
            wrong = np.flatnonzero(~np.isfinite(numbers))
            return numbers, int(wrong[0]) if len(wrong) else None
        except OverflowError:
            pass
    return np.zeros(0), next(i for i, value in enumerate(values) if not is_finite(value))


def is_finite(value: Any) -> bool:
    """Whether a JSON value is a number that a float can hold."""
    if type(value) not in (int, float):
        return False
    try:
        return bool(np.isfinite(float(value)))
    except OverflowError:
        return False


def boxes_of(values: Sequence[Any]) -> tuple[np.ndarray, int | None]:
    """Boxes xyxy of boxes [x, y, width, height], float64 (n, 4), and the place of the first that is none.

    A box is four finite numbers, of no negative width or height, and within 2^31 pixels: farther out, the corners are too
    coarse to hold the size.
    """
    if not set(map(type, values)) - {list} and not set(map(len, values)) - {4}:
        numbers, wrong = finite_numbers(list(chain.from_iterable(values)))
        if wrong is not None:
            return np.zeros((0, 4)), wrong // 4
        boxes = numbers.reshape(-1, 4)
        valid = (boxes[:, 2:] >= 0).all(axis=1) & (np.abs(boxes) <= _FARTHEST).all(axis=1)
        boxes[:, 2:] += boxes[:, :2]
        return boxes, None if valid.all() else int(np.argmin(valid))
    return np.zeros((0, 4)), next(i for i, value in enumerate(values) if type(value) is not list or len(value) != 4)


def refuse_twice(ids: np.ndarray, what: str, source: object) -> None:
    """Refuse an id that stands more than once.

    Raises:
        DataError: Names it.
    """
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise DataError(
            f"{what} id {values[counts > 1][0]} stands {counts[counts > 1][0]} times in {source}",
            fix=f"give every {what} a different id",
        )


def places_in(known: np.ndarray, named: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place in ``known`` of every named id, in any order, and whether it is there at all."""
    if not len(known):
        return np.zeros(len(named), dtype=np.int64), np.zeros(len(named), dtype=bool)
    order = np.argsort(known, kind="stable")
    place = order[np.minimum(np.searchsorted(known[order], named), len(known) - 1)]
    return place, known[place] == named


def shown(value: Any) -> str:
    """A value as an error repeats it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
