"""Files of class names, and of the values or colours that label images hold for them."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longtail.classes_file import checked_palette, distinct_names, read_classes_file
from longtail.datasets.base import ClassInfo
from longtail.datasets.palette import generate_palette
from longtail.errors import ConfigError, DataError
from longtail.frequency.label_format import PLAIN, Colour, LabelFormat
from longtail.json_files import read_text

#: Looked for in this order.
CLASS_FILES = ("classes.json", "classes.txt", "labelmap.txt", "class_dict.csv", "_classes.csv")
_VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_LABELMAP = "write name:red,green,blue:: for every class"
_TABLE = "write the columns name, r, g, b, or Pixel Value, Class"
_VOC_BORDER = (224, 224, 192)


@dataclass(frozen=True)
class ClassFile:
    """Classes as a file describes them.

    Args:
        path: The file.
        names: Names in the order of the file.
        colours: A colour for every name.
        values: Value that label images store for every name; 0, 1, … where not given.
        ignore_index: Value of pixels without class.
        coloured: Whether label images hold the colours; else ``colours`` are for overlays, and are read from label
            images of three channels alone.
        ignored_colours: Colours of pixels without class.
    """

    path: Path
    names: tuple[str, ...]
    colours: tuple[Colour, ...] | None = None
    values: tuple[int, ...] | None = None
    ignore_index: int = 255
    coloured: bool = False
    ignored_colours: tuple[Colour, ...] = ()

    def classes(self, ignored: Sequence[str] = ()) -> ClassInfo:
        """Names and colours of the classes that are not ignored.

        Raises:
            ConfigError: An ignored class is none.
        """
        for name in ignored:
            if name not in self.names:
                few = ", ".join(self.names[:8]) + (" …" if len(self.names) > 8 else "")
                raise ConfigError(f"ignore_classes names {name!r}, not in {self.path}", fix=f"choose from {few}")
        kept = [i for i, name in enumerate(self.names) if name not in ignored]
        if not kept:
            raise ConfigError(f"ignore_classes names all classes of {self.path}", fix="keep at least one")
        colours = self.colours or generate_palette(len(self.names))
        return ClassInfo(tuple(self.names[i] for i in kept), tuple(colours[i] for i in kept))

    def label_format(self, ignore_index: int, ignored: Sequence[str] = ()) -> LabelFormat:
        """How label images of these classes are read.

        Args:
            ignore_index: Class id of pixels without class.
            ignored: Names of classes whose pixels have none.
        """
        values = self.values or tuple(range(len(self.names)))
        table = None
        if ignored or values != tuple(range(len(values))):
            table = np.full(max(256, *values, ignore_index) + 1, -1, np.int32)
            table[ignore_index] = ignore_index
            kept = [value for value, name in zip(values, self.names, strict=True) if name not in ignored]
            table[list(values)] = ignore_index
            table[kept] = np.arange(len(kept))
        if self.colours is None:
            return PLAIN if table is None else LabelFormat(table)
        for place, colour in enumerate(self.colours if self.coloured else ()):
            if (first := self.colours.index(colour)) < place:
                problem = f"{self.path} gives {self.names[first]!r} and {self.names[place]!r} one colour, {colour}"
                raise DataError(problem, fix="give each its own")
        # a class wins over an ignored value, such as a class as grey as VOC's borders
        colours = dict.fromkeys(self.ignored_colours, ignore_index) | dict(zip(self.colours, values, strict=True))
        return LabelFormat(table, colours, self.coloured)


def find_class_file(folders: Iterable[Path]) -> Path | None:
    """The first class file in some folders."""
    found = (folder / name for folder in folders for name in CLASS_FILES if (folder / name).is_file())
    return next(found, None)


def read_class_file(path: Path) -> ClassFile:
    """Read ``classes.json``, ``classes.txt``, ``labelmap.txt``, ``class_dict.csv`` or ``_classes.csv``.

    Raises:
        DataError: The file cannot be read, or does not hold what files of its name do.
    """
    if path.name == "labelmap.txt":
        return _from_labelmap(path)
    if path.suffix == ".csv":
        return _from_table(path)
    plain = read_classes_file(path)
    return ClassFile(
        path, plain.names, plain.palette, ignore_index=255 if plain.ignore_index is None else plain.ignore_index
    )


def voc_classes(folder: Path) -> ClassFile:
    """PASCAL VOC's classes, whose label images are palette images with 255 at the borders of objects."""
    return ClassFile(folder, _VOC_CLASSES, voc_colours(len(_VOC_CLASSES)), ignored_colours=(_VOC_BORDER,))


def voc_colours(count: int) -> tuple[Colour, ...]:
    """The first colours of PASCAL VOC's palette: bits 0, 1 and 2 of the class id are high bits of red, green, blue."""
    return tuple(
        tuple(sum((i >> 3 * bit + channel & 1) << 7 - bit for bit in range(3)) for channel in range(3))  # type: ignore[misc]
        for i in range(count)
    )


def _from_labelmap(path: Path) -> ClassFile:
    """CVAT's and datumaro's ``name:red,green,blue:parts:actions``."""
    names, colours = [], []
    for number, line in enumerate(read_text(path, "classes", _LABELMAP).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        parts = rest.split(":")[0].split(",")
        try:
            colours.append([int(part) for part in parts] if parts != [""] else [])
        except ValueError as error:
            raise DataError(f"line {number} of {path} is {line!r}", fix=_LABELMAP) from error
        names.append(name.strip())
    distinct = distinct_names(names, path)
    if not any(colours):
        return ClassFile(path, distinct)
    palette = checked_palette(colours, len(distinct), path)
    return ClassFile(path, distinct, palette, coloured=True, ignored_colours=(_VOC_BORDER,))


def _from_table(path: Path) -> ClassFile:
    """``class_dict.csv`` with columns name, r, g, b; Roboflow's ``_classes.csv`` with columns Pixel Value, Class."""
    lines = read_text(path, "classes", _TABLE).splitlines()
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, skipinitialspace=True)]
    except csv.Error as error:
        raise DataError(f"cannot read classes from {path}: {error}", fix=_TABLE) from error
    header = [title.lower() for title in rows[0]] if rows else []
    stored = header[:2] == ["pixel value", "class"]
    columns = [next((i for i, title in enumerate(header) if title in known), -1) for known in _COLUMNS]
    columns = [1, 0] if stored else columns
    if min(columns) < 0:
        raise DataError(f"{path} has the columns {', '.join(header) or 'none'}", fix=_TABLE)
    names, numbers = [], []
    for number, row in enumerate(rows[1:], 2):
        if any(row):
            try:
                names.append(row[columns[0]])
                numbers.append([int(row[i]) for i in columns[1:]])
            except (ValueError, IndexError) as error:
                raise DataError(f"line {number} of {path} is {','.join(row)!r}", fix=_TABLE) from error
    distinct = distinct_names(names, path)
    if not stored:
        return ClassFile(path, distinct, checked_palette(numbers, len(distinct), path), coloured=True)
    values = tuple(value for (value,) in numbers)
    if len({value for value in values if 0 <= value <= 65535}) != len(distinct):
        raise DataError(f"pixel values of {path} are not distinct, or not in 0 … 65535", fix="give each class its own")
    return ClassFile(path, distinct, values=values)


_COLUMNS = (("name", "class", "label", "class_name"), ("r", "red"), ("g", "green"), ("b", "blue"))
