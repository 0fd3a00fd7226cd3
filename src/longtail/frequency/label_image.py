"""Label images: decoding, and the occurrences of every stored value, at the speed of the decoder."""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from longtail.errors import DataError, LongtailError
from longtail.frequency.label_format import PLAIN, LabelFormat

#: Formats, in Pillow's words, that hold no ids.
LOSSY_FORMATS = frozenset({"JPEG", "MPO", "JPEG2000", "WEBP", "AVIF"})
_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L")
# Grey PNGs of 1, 2 and 4 bits are decoded stretched to 0 … 255; the step between two stored values, by raw mode.
_STRETCH = {"1": 255, "L;2": 85, "L;4": 17}
_MAX_VALUE = 65535
_MIN_BY_FOURS = 2**18  # pixels; below, adding the four tables costs what counting by fours saves


def open_label(path: str | Path, format: LabelFormat = PLAIN) -> Image.Image:
    """Decode a label image.

    Palette images keep their indices (as in PASCAL VOC), grey images of less than 8 bits their stored values.

    Args:
        path: The file.
        format: Tells the colours, where files hold colours.

    Returns:
        A loaded image of mode ``L`` or ``P`` (8 bits), or of a 16/32-bit integer mode.

    Raises:
        DataError: The file is missing, corrupt, of a lossy format, has several pages, or has colours that ``format``
            does not tell.
    """
    with decoding("label image", path), Image.open(path) as file:
        _refuse_inexact(file, path)
        stretch = _STRETCH.get(_raw_mode(file), 1)
        file.load()
        image: Image.Image = file
    if image.mode == "1":
        image, stretch = image.convert("L"), 255
    if format.colours:
        image = format.stored(image, path)
    if image.mode not in ("L", "P", *_WIDE_MODES):
        raise DataError(
            f"label image {path} has mode {image.mode} ({len(image.getbands())} channels), not one channel of class ids",
            fix="store labels as single-channel or palette PNGs whose values are class ids; where they are colours, name "
            "the colour of every class in class_dict.csv (name,r,g,b) or as palette in classes.json",
        )
    return image.point([value // stretch for value in range(256)]) if stretch > 1 else image


@contextmanager
def decoding(what: str, path: str | Path, fix: str = "restore the file from its source") -> Iterator[None]:
    """Turn what decoders raise into one error that names the file.

    Args:
        what: What the file is, for the error.
        path: The file.
        fix: The way out where the file cannot be decoded.

    Raises:
        DataError: The file is missing, corrupt, or larger than Pillow reads.
    """
    try:
        yield
    except LongtailError:
        raise
    except FileNotFoundError as error:
        fix = "restore the file, or leave it and what belongs to it out"
        raise DataError(f"{what} {path} does not exist", fix=fix) from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise DataError(
            f"{what} {path} has more than {limit:.0f} megapixels, which are not read at once",
            fix="cut it and what belongs to it into tiles, such as 2048 x 2048",
        ) from error
    except Exception as error:  # decoders fail in many ways
        raise DataError(f"cannot read {what} {path}: {str(error) or type(error).__name__}", fix=fix) from error


def _refuse_inexact(file: ImageFile.ImageFile, path: str | Path) -> None:
    """Refuse formats that change values when they are written, and files of several images."""
    if file.format in LOSSY_FORMATS or file.info.get("compression") == "jpeg":
        raise DataError(
            f"label image {path} is {file.format}, a lossy format: its values are not the ids that were written",
            fix="export the labels again as PNG; a conversion of this file keeps the wrong ids",
        )
    if file.format == "GIF":
        raise DataError(
            f"label image {path} is GIF, whose writers number the colours anew: its values are not the ids that were written",
            fix="export the labels again as PNG",
        )
    if getattr(file, "n_frames", 1) > 1:
        raise DataError(
            f"label image {path} holds {file.n_frames} pages",  # type: ignore[attr-defined]
            fix="store one page of class ids in a file",
        )


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Raw mode of the file's pixels, e.g. ``L;4`` for a 4-bit grey PNG."""
    arguments = image.tile[0][3] if image.tile else ""
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


def label_values(image: Image.Image) -> np.ndarray:
    """Stored values of a decoded label image: uint8 (h, w), or int32 where the file has more than 8 bits."""
    values = np.asarray(image)
    return values.astype(np.int32) if image.mode in _WIDE_MODES else values


def value_histogram(image: Image.Image, path: str | Path = "") -> np.ndarray:
    """Number of pixels of every stored value: int64 (256,), longer for files of more than 8 bits.

    Args:
        image: What ``open_label`` returned.
        path: Names the file in the error.

    Raises:
        DataError: A value is negative or above 65535.
    """
    if image.mode not in _WIDE_MODES:
        if image.width * image.height >= _MIN_BY_FOURS:
            return _histogram_by_fours(image)
        return np.asarray(image.histogram(), dtype=np.int64)
    values = label_values(image)
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > _MAX_VALUE:
        raise DataError(
            f"label image {path} holds value {low if low < 0 else high}", fix=f"use class ids in 0 … {_MAX_VALUE}"
        )
    return np.bincount(values.ravel(), minlength=256)


def _histogram_by_fours(image: Image.Image) -> np.ndarray:
    """``image.histogram()`` of an 8-bit image, int64 (256,), in less time.

    The pixels' bytes are read as RGBA pixels of one row: Pillow counts each band in a separate table, and the four
    tables add up to the histogram of all pixels. Equal neighbours, of which label maps are made, then wait less often
    for one another to increment the same number.
    """
    values = image.tobytes()
    fours = len(values) // 4
    tables = Image.frombuffer("RGBA", (fours, 1), values, "raw", "RGBA", 0, 1).histogram()
    counts = np.asarray(array("Q", tables)).reshape(4, 256).sum(axis=0, dtype=np.int64)
    for value in values[4 * fours :]:
        counts[value] += 1
    return counts


def class_histogram(
    values: np.ndarray,
    class_names: Sequence[str],
    ignore_index: int,
    table: np.ndarray | None = None,
    path: str | Path = "",
) -> tuple[np.ndarray, int]:
    """Pixels of every class and number of ignored pixels, from the pixels of every stored value.

    Args:
        values: int64 (V,), pixels of every stored value.
        class_names: Names of the C classes.
        ignore_index: The class id that means "no class".
        table: (V,) class id of every stored value, or ``ignore_index``; any other entry (-1) marks a value that
            must not occur. None for identity.
        path: Names the file in the error.

    Returns:
        Pixels of every class, int64 (C,), and the number of ignored pixels.

    Raises:
        DataError: A value occurs that is neither a class nor ignored.
    """
    num_classes = len(class_names)
    known = None if table is None else np.asarray(table, dtype=np.int64).tobytes()
    place = _places(len(values), num_classes, ignore_index, known)
    sums = np.bincount(place, weights=values, minlength=num_classes + 2).astype(np.int64)  # exact below 2**53
    if sums[-1]:
        unknown = np.flatnonzero((place > num_classes) & (values > 0))
        raise DataError(
            f"label image {path} holds value{'s' if len(unknown) > 1 else ''} {', '.join(map(str, unknown[:8]))} "
            f"({sums[-1]} pixels): no class of the {num_classes} has it, and it is not the "
            f"ignored one ({ignore_index})",
            fix="correct the label file, name every class, set ignore_index, or map the values with label_map: "
            f"{_proposed_map(values, num_classes, ignore_index, int(unknown[0]))}",
        )
    return sums[:num_classes], int(sums[num_classes])


def _proposed_map(values: np.ndarray, num_classes: int, ignore_index: int, unknown: int) -> str:
    """A map for stored values that are no ids: as many as there are classes may be these in order."""
    stored = [value for value in np.flatnonzero(values).tolist() if value != ignore_index]
    if len(stored) == num_classes:
        return f"{{{', '.join(f'{value}: {place}' for place, value in enumerate(stored))}}} if these are the classes in order"
    return f"{{{unknown}: {ignore_index}}} ignores them"


def class_ids(
    path: str | Path, class_names: Sequence[str], ignore_index: int, format: LabelFormat, dtype: type[np.generic]
) -> np.ndarray:
    """Class ids (h, w) of a label file.

    Args:
        path: The file.
        class_names: See ``class_histogram``.
        ignore_index: See ``class_histogram``.
        format: Meaning of the stored values.
        dtype: Of the result; it must hold all ids and ``ignore_index``.

    Raises:
        DataError: The file is unreadable or holds a value that is neither a class nor ignored.
    """
    image = open_label(path, format)
    class_histogram(value_histogram(image, path), class_names, ignore_index, format.table, path)  # refuses other values
    values = label_values(image)
    return values.astype(dtype) if format.table is None else format.table.astype(dtype)[values]


@lru_cache(maxsize=16)
def _places(num_values: int, num_classes: int, ignore_index: int, table: bytes | None) -> np.ndarray:
    """Class of every stored value; behind the classes, one place for ignored pixels and one for what must not be."""
    ids = np.arange(num_values)
    if table is not None:
        known = np.frombuffer(table, dtype=np.int64)
        ids = np.where(ids < len(known), known[np.minimum(ids, len(known) - 1)], -1)
    place = np.where((ids >= 0) & (ids < num_classes), ids, num_classes + 1)
    place[ids == ignore_index] = num_classes
    return place
