"""Qualitative pictures of run folders as data URIs: coloured with the palette, small."""

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from longtail.errors import DataError
from longtail.reports.comparison import Comparison

_LONGEST_SIDE = 420
_IGNORED = (24, 26, 30)
_LISTED_CLASSES = 8


@dataclass(frozen=True)
class Swatch:
    """A class that an image shows, with its colour (CSS)."""

    name: str
    group: str
    colour: str


@dataclass(frozen=True)
class PictureRow:
    """One image.

    Args:
        name: Its name.
        pictures: (heading, data URI) from left to right.
        classes: The rarest classes of its truth.
    """

    name: str
    pictures: list[tuple[str, str]]
    classes: list[Swatch]


def picture_rows(comparison: Comparison) -> list[PictureRow]:
    """Input, truth, baseline, methods and oracle of every image that the run in focus has pictures of.

    Raises:
        DataError: ``pictures/index.json`` or a file that it names is not what it should be.
    """
    folder = comparison.focus.pictures
    if folder is None:
        return []
    index, palette = read_index(folder, len(comparison.class_names))
    classes = index.get("classes", {})
    return [_row(comparison, folder, name, palette, classes.get(name, [])) for name in index["images"]]


def _row(comparison: Comparison, folder: Path, name: str, palette: np.ndarray, shown: list[int]) -> PictureRow:
    """Label maps (PNG) in the colours of the palette; pictures with objects drawn (JPEG) as they are.

    Args:
        comparison: The runs.
        folder: Pictures of the run in focus.
        name: Name of the image.
        palette: Colour of every class.
        shown: Classes of the objects drawn.
    """
    pictures = []
    photo = next((f for suffix in (".jpg", ".png") if (f := folder / f"{name}.input{suffix}").is_file()), None)
    if photo is not None:
        pictures.append(("Input", uri_of(small_photo(photo))))
    classes: list[Swatch] = []
    if (truth_file := folder / f"{name}.truth.png").is_file():
        truth = _labels(truth_file)
        pictures.append(("Truth", _label_uri(truth, palette)))
        classes = _rarest(comparison, set(np.unique(truth).tolist()), palette)
    elif (drawn := folder / f"{name}.truth.jpg").is_file():
        pictures.append(("Truth", uri_of(small_photo(drawn))))
        classes = _rarest(comparison, set(shown), palette)
    for entry in comparison.headline:
        if (where := entry.run.pictures) is None:
            continue
        if (file := where / f"{name}.{entry.name}.png").is_file():
            pictures.append((entry.label, _label_uri(_labels(file), palette)))
        elif (drawn := where / f"{name}.{entry.name}.jpg").is_file():
            pictures.append((entry.label, uri_of(small_photo(drawn))))
    return PictureRow(name, pictures, classes)


def read_index(folder: Path, num_classes: int) -> tuple[dict[str, Any], np.ndarray]:
    """What a folder of pictures holds, and uint8 (256, 3) colours of its classes.

    Raises:
        DataError: ``index.json`` is not what it should be.
    """
    index = _index(folder)
    return index, _palette(index, folder, num_classes)


def _index(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        names = record["images"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {path}: {error!r}", fix="evaluate again, or remove the pictures") from error
    if not isinstance(names, list) or any(Path(str(name)).is_absolute() or ".." in str(name) for name in names):
        raise DataError(f"{path} names images outside its folder", fix="evaluate again, or remove the pictures")
    return {**record, "images": [str(name) for name in names]}


def _palette(index: dict[str, Any], folder: Path, num_classes: int) -> np.ndarray:
    """uint8 (256, 3) colour of every stored value."""
    colours = np.full((256, 3), _IGNORED, np.uint8)
    given = np.asarray(index.get("palette", []), dtype=np.uint8).reshape(-1, 3)
    if len(given) < min(num_classes, 255):
        raise DataError(
            f"{folder / 'index.json'} has {len(given)} colours for {num_classes} classes", fix="evaluate again"
        )
    colours[: min(len(given), 255)] = given[:255]
    return colours


def _labels(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P"):
                raise DataError(f"{path} has mode {image.mode}, not 8-bit class ids", fix="evaluate again")
            image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.NEAREST)
            return np.asarray(image)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}", fix="evaluate again, or remove the pictures") from error


def _label_uri(labels: np.ndarray, palette: np.ndarray) -> str:
    image = Image.fromarray(labels, mode="P") if labels.dtype == np.uint8 else Image.fromarray(labels)
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return _uri("image/png", buffer)


def small_photo(path: Path, longest_side: int = _LONGEST_SIDE) -> Image.Image:
    """A photograph at the size of the page.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with Image.open(path) as image:
            photo = image.convert("RGB")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}", fix="evaluate again, or remove the pictures") from error
    photo.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    return photo


def uri_of(photo: Image.Image) -> str:
    """A photograph as a data URI."""
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=84)
    return _uri("image/jpeg", buffer)


def _uri(kind: str, buffer: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _rarest(comparison: Comparison, present: set[int], palette: np.ndarray) -> list[Swatch]:
    """The rarest of the classes present, the rarest first."""
    rarest = [c for c in comparison.order[::-1].tolist() if c in present][:_LISTED_CLASSES]
    groups = comparison.groups
    return [
        Swatch(comparison.class_names[c], groups.names[groups.group_of[c]], f"#{palette[c].tobytes().hex()}")
        for c in rarest
    ]
