"""Boxes in tables: CSV files with a row for each object, as OpenImages and many tools have them."""

import csv
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from longtail.datasets.annotated import Annotated, choose_file, coco_table, place_images
from longtail.datasets.coco import Coco, path_for_split
from longtail.datasets.coco_layouts import image_folders
from longtail.datasets.photographs import image_sizes
from longtail.datasets.splits import split_of
from longtail.errors import DataError
from longtail.folders import matching
from longtail.json_files import check_kind, read_json, read_lines, read_text

#: What columns are called, in lower-case letters and digits alone.
_COLUMNS = {
    "image": ("imageid", "image", "filename", "file", "imagename", "imagepath", "path", "filepath"),
    "class": ("labelname", "label", "class", "classname", "category", "categoryname"),
    "left": ("xmin", "x1", "left", "bboxxmin"),
    "top": ("ymin", "y1", "top", "bboxymin"),
    "right": ("xmax", "x2", "right", "bboxxmax"),
    "bottom": ("ymax", "y2", "bottom", "bboxymax"),
}
_CROWD = ("isgroupof", "iscrowd")
_FIX = "give the columns image, class, xmin, ymin, xmax and ymax, one row for each object"


class BoxTable(Coco):
    """Images with boxes from CSV files, or JSON files with a list of such records: a row for each object.

    OpenImages's files (``SPLIT-annotations-bbox.csv`` with ``class-descriptions*.csv``), Roboflow's
    ``SPLIT/_annotations.csv`` and others whose columns name the image, the class and the corners of the box. Corners
    that are all from 0 to 1 are shares of the image. A row without corners names an image without objects. The
    classes are those of the class descriptions, else the names of all splits in order. The options are those of
    ``Coco``.
    """

    def _find(self, root: Path, split: str) -> Annotated:
        tables, own = table_files(root), split_of(split)
        # reading a damaged table of the split says what is wrong with it
        others = (file for file in matching(root, "*.csv") if file not in tables)
        damaged = [file for file in others if own and split_of(file.name) == own]
        found = choose_file([*tables, *damaged], root, split, "tables of boxes")
        if found is None:
            raise DataError(f"{root} has no table of boxes", fix=_FIX)
        return read_table(root, split, *found)

    def _named(self, root: Path, split: str, annotations: str | Path) -> Annotated:
        return read_table(root, split, path_for_split(root, annotations, split))


def table_files(root: Path) -> list[Path]:
    """CSV and JSON files of a folder, its ``annotations`` and the folders of its splits that are tables of boxes."""
    found = matching(root, "*.csv", "annotations/*.csv", "*/_annotations.csv", "*.json", "annotations/*.json")
    return [path for path in found if _columns(_header(path)) is not None]


def read_table(root: Path, split: str, file: Path, has_splits: bool = True) -> Annotated:
    """Annotations of a table.

    Args:
        root: Folder of the data set: its other tables have the same classes.
        split: The split, whose folders are looked for images first.
        file: The table.
        has_splits: Whether the table is of the split alone.

    Raises:
        DataError: A column is missing, or a row has no class or no box.
    """
    rows = _rows(file)
    columns = _columns(list(rows[0]))
    if columns is None:
        there = ", ".join(str(name) for name in rows[0])
        raise DataError(f"{file} has no columns of images, classes and corners, but {there}", fix=_FIX)
    described = _descriptions(root)
    names = list(dict.fromkeys(described.values())) or _class_names([file, *table_files(root)])
    class_of = {name: c for c, name in enumerate(names)}
    boxes = [_corners(file, number, row, columns) for number, row in enumerate(rows, start=2)]
    images = list(dict.fromkeys(str(row[columns["image"]]).strip() for row in rows))
    files = place_images(images, image_folders(root, split, file), root)
    sizes = dict(zip(images, image_sizes(files), strict=True))
    shares = all(0 <= value <= 1 for box in boxes if box for value in box)
    number_of = {name: number for number, name in enumerate(images)}
    crowd = next((key for key in rows[0] if _plain(key) in _CROWD), None)
    annotations: list[dict[str, Any]] = []
    for row, box in zip(rows, boxes, strict=True):
        if box is None:
            continue
        name = str(row[columns["image"]]).strip()
        height, width = sizes[name] if shares else (1, 1)
        left, top, right, bottom = (v * s for v, s in zip(box, (width, height, width, height), strict=True))
        label = str(row[columns["class"]]).strip()
        if described and label not in described:
            raise DataError(f"{file} has boxes of {label}, which no class description names", fix="add its description")
        annotations.append(
            {
                "image_id": number_of[name],
                "category_id": class_of[described.get(label, label)],
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": int(crowd is not None and str(row[crowd]).strip().lower() in ("1", "true")),
            }
        )
    table = coco_table(file, root, files, list(sizes.values()), names, annotations)
    note = f"corners are {'shares of the image' if shares else 'pixels'}; images without a row are left out"
    return Annotated(table, [root], has_splits, note)


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        if file.suffix == ".json":
            rows = check_kind(read_json(file, "boxes", _FIX), list[dict[str, Any]], file, _FIX)
        else:
            lines = read_text(file, "boxes", _FIX).splitlines(keepends=True)
            rows = list(csv.DictReader(lines, delimiter=_delimiter(lines[0] if lines else "")))
    except csv.Error as error:
        raise DataError(f"cannot read boxes from {file}: {error}", fix=_FIX) from error
    if not rows:
        raise DataError(f"{file} has no rows", fix=_FIX)
    return rows


def _header(file: Path) -> list[str]:
    """Names of the columns of a file, or of the keys of its first record; empty where it is no table."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if file.suffix != ".json":
                first = lines.readline()
                return next(csv.reader([first], delimiter=_delimiter(first)), [])
            record = re.match(r"\s*\[\s*(\{[^{}]*\})", lines.read(4096))
            return list(json.loads(record[1])) if record else []
    except (OSError, ValueError, csv.Error):
        return []


def _delimiter(header: str) -> str:
    """Comma, semicolon or tab, whichever a header has most."""
    return max(",;\t", key=header.count)


def _columns(header: Iterable[str | None]) -> dict[str, str] | None:
    """What is needed -> name of its column; None where one is missing."""
    by_plain = {_plain(name): name for name in header if name}
    found = {what: next((by_plain[n] for n in names if n in by_plain), None) for what, names in _COLUMNS.items()}
    return {what: name for what, name in found.items() if name} if all(found.values()) else None


def _plain(name: str | None) -> str:
    return re.sub("[^a-z0-9]", "", (name or "").lower())


def _corners(file: Path, line: int, row: Mapping[str, Any], columns: Mapping[str, str]) -> list[float] | None:
    """Corners of a row; None where it has none."""
    texts = [row.get(columns[side]) for side in ("left", "top", "right", "bottom")]
    if all(text is None or str(text).strip() == "" for text in texts):
        return None
    where = f"row {line} of {file}"
    try:
        box = [float(text) for text in texts]  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} has the corners {texts}", fix="give four numbers, or none") from error
    if not all(map(math.isfinite, box)) or box[2] < box[0] or box[3] < box[1]:
        raise DataError(f"{where} has the corners {box}", fix="give finite numbers, xmin <= xmax and ymin <= ymax")
    if not str(row.get(columns["class"]) or "").strip():
        raise DataError(f"{where} has a box without a class", fix="name its class")
    return box


def _class_names(files: Iterable[Path]) -> list[str]:
    """Classes of all tables: numbers by value, names by letter."""
    found: set[str] = set()
    for file in dict.fromkeys(files):
        rows = _rows(file)
        if columns := _columns(list(rows[0])):
            found |= {str(row.get(columns["class"]) or "").strip() for row in rows}
    names = found - {""}
    return sorted(names, key=int) if all(name.isascii() and name.isdigit() for name in names) else sorted(names)


def _descriptions(root: Path) -> dict[str, str]:
    """Label -> name of every class of OpenImages's ``class-descriptions*.csv``; empty where there is none."""
    file = next(iter(matching(root, "*class-descriptions*.csv", "*/*class-descriptions*.csv")), None)
    if file is None:
        return {}
    rows = [line.split(",", 1) for line in read_lines(file)]
    if any(len(row) < 2 for row in rows):
        raise DataError(f"a row of {file} is not label and name", fix="give rows of label and name")
    return {row[0].strip(): row[1].strip() for row in rows if _plain(row[0]) != "labelname"}
