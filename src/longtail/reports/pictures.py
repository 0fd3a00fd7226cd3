"""Qualitative pictures of run folders as data URIs: coloured with the palette, small."""

import base64
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from longtail.errors import DataError
from longtail.reports.axes import group_colours
from longtail.reports.comparison import Comparison

_LONGEST_SIDE = 420
_IGNORED = (24, 26, 30)
_LISTED_CLASSES = 8
_FIX = "evaluate again, or remove the pictures"


@dataclass(frozen=True)
class Swatch:
    """A class that an image shows, with its colour (CSS)."""

    name: str
    group: str
    colour: str
    of: str  # the class itself, where ``name`` says more


@dataclass(frozen=True)
class PictureRow:
    """One image.

    Args:
        name: Its name.
        pictures: (heading, data URI) from left to right.
        classes: The rarest classes of its truth.
        small: Whether the pictures are crops, to be shown small.
    """

    name: str
    pictures: list[tuple[str, str]]
    classes: list[Swatch]
    small: bool = False


def picture_rows(comparison: Comparison) -> list[PictureRow]:
    """Input, truth, baseline, methods and oracle of every image that the run in focus has pictures of.

    Raises:
        DataError: ``pictures/index.json`` or a file that it names cannot be used.
    """
    folder = comparison.focus.pictures
    if folder is None:
        return []
    index, palette = read_index(folder, len(comparison.class_names))
    rows = []
    for name in index["images"]:
        stems = [("Input", folder / f"{name}.input"), ("Truth", folder / f"{name}.truth")]
        stems += [(e.label, e.run.pictures / f"{name}.{e.name}") for e in comparison.headline if e.run.pictures]
        pictures = [(heading, uri) for heading, stem in stems if (uri := _picture(stem, palette))]
        truth = folder / f"{name}.truth.png"
        present = np.unique(_labels(truth)).tolist() if truth.is_file() else index.get("classes", {}).get(name, [])
        rarest = [c for c in comparison.order[::-1].tolist() if c in present][:_LISTED_CLASSES]
        swatches = [swatch(comparison, c, comparison.class_names[c], palette) for c in rarest]
        rows.append(PictureRow(name, pictures, swatches))
    return rows


def failure_rows(comparison: Comparison) -> list[PictureRow]:
    """Pictures of the failures of every class of the run in focus that has any, with its training examples last."""
    colours = dict(zip(comparison.groups.names, group_colours(comparison.groups.names), strict=True))
    rows = []
    for name, failures in comparison.focus.failures.items():
        if name not in comparison.class_names:
            raise DataError(f"pictures of a class {name!r} that the results do not have", fix=_FIX)
        group = comparison.group_name(comparison.class_names.index(name))
        shown = [(f"{f.sort}: {f.words}" if f.words else f.sort, f"data:image/jpeg;base64,{f.jpeg}") for f in failures]
        rows.append(PictureRow(name, shown, [Swatch(name, group, colours[group], name)], small=True))
    return rows


def swatch(comparison: Comparison, index: int, words: str, palette: np.ndarray) -> Swatch:
    """``words`` on a class, with its group and its colour."""
    return Swatch(
        words, comparison.group_name(index), f"#{palette[index].tobytes().hex()}", comparison.class_names[index]
    )


def read_index(folder: Path, num_classes: int) -> tuple[dict[str, Any], np.ndarray]:
    """Content of a folder of pictures, and uint8 (256, 3) colours of every stored value.

    Raises:
        DataError: ``index.json`` cannot be used.
    """
    path = folder / "index.json"
    index = read_record(path, lambda record: record["images"])
    colours = np.full((256, 3), _IGNORED, np.uint8)
    given = np.asarray(index.get("palette", []), dtype=np.uint8).reshape(-1, 3)
    if len(given) < min(num_classes, 255):
        raise DataError(f"{path} has {len(given)} colours for {num_classes} classes", fix="evaluate again")
    colours[: min(len(given), 255)] = given[:255]
    return index, colours


def read_record(path: Path, names: Any) -> dict[str, Any]:
    """A JSON file of a folder of pictures.

    Args:
        path: The file.
        names: Reads from its content the names of images, which may not lead out of the folder.

    Raises:
        DataError: The file cannot be read, or names files elsewhere.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        listed: Iterable[str] = [str(name) for name in names(record)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {path}: {error!r}", fix=_FIX) from error
    if not isinstance(record, dict) or any(Path(name).is_absolute() or ".." in name for name in listed):
        raise DataError(f"{path} names images outside its folder", fix=_FIX)
    return record


def small_photo(path: Path, longest_side: int = _LONGEST_SIDE) -> Image.Image:
    """A photograph at the size of the page.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with Image.open(path) as image:
            photo = image.convert("RGB")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}", fix=_FIX) from error
    photo.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    return photo


def data_uri(image: Image.Image) -> str:
    """An image as a data URI: label maps as PNG, photographs as JPEG."""
    kind, options = ("png", {"optimize": True}) if image.mode == "P" else ("jpeg", {"quality": 84})
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _picture(stem: Path, palette: np.ndarray) -> str:
    """A label map (PNG) in the colours of the palette, a picture with objects drawn (JPEG) as it is; empty for none."""
    labels, photo = (stem.with_name(f"{stem.name}{suffix}") for suffix in (".png", ".jpg"))
    if labels.is_file():
        image = Image.fromarray(_labels(labels))
        image.putpalette(palette.tobytes())
        return data_uri(image)
    return data_uri(small_photo(photo)) if photo.is_file() else ""


def _labels(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P"):
                raise DataError(f"{path} has mode {image.mode}, not 8-bit class ids", fix="evaluate again")
            image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.NEAREST)
            return np.asarray(image)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}", fix=_FIX) from error
