"""Names of the classes of a data set, from ``classes.json`` or ``classes.txt``."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.errors import DataError
from longtail.json_files import check_kind, read_json, read_text

_JSON = 'write {"names": ["first", "second"]}, and where wanted "palette": [[r, g, b], ...] and "ignore_index"'
_TEXT = "write the class names, one per line in the order of their ids"
Palette = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class ClassesFile:
    """Classes as a file describes them.

    Args:
        names: C names, in the order of the ids.
        palette: C colours; None where the file has none.
        ignore_index: Label value of pixels without a class; None where the file does not say.
    """

    names: tuple[str, ...]
    palette: Palette | None = None
    ignore_index: int | None = None


def read_classes_file(path: str | Path) -> ClassesFile:
    """Read ``classes.json`` (an object with ``names``, or a list of names), or names one per line.

    Raises:
        DataError: The file is missing, not in UTF-8, of another form, or its names are not distinct.
    """
    if Path(path).suffix.lower() != ".json":
        return ClassesFile(distinct_names(read_text(path, "class names", _TEXT).split("\n"), path))
    record: Any = read_json(path, "class names", _JSON)
    if isinstance(record, list):
        record = {"names": record}
    check_kind(record, dict[str, Any], path, _JSON)
    if not isinstance(record.get("names"), list):
        raise DataError(f"{path} holds no list of names", fix=_JSON)
    names = distinct_names(record["names"], path)
    ignore_index = check_kind(record.get("ignore_index"), int | None, path, _JSON, "ignore_index")
    palette = record.get("palette")
    return ClassesFile(names, None if palette is None else checked_palette(palette, len(names), path), ignore_index)


def distinct_names(names: Iterable[Any], source: object) -> tuple[str, ...]:
    """Names without the blanks around them and without blank ones at the end.

    Args:
        names: In the order of the class ids.
        source: File or argument that they come from, for errors.

    Raises:
        DataError: There is none, one is no text or blank, or two are equal.
    """
    found = []
    for place, name in enumerate(names):
        if not isinstance(name, str):
            raise DataError(
                f"class {place} of {source} has the name {name!r}, no text", fix="give every class a name in quotes"
            )
        found.append(name.strip())
    while found and not found[-1]:
        found.pop()
    if not found:
        raise DataError(f"{source} holds no class names", fix=_TEXT)
    if "" in found:
        raise DataError(f"class {found.index('')} of {source} has no name", fix="give every class a different name")
    twice = sorted({name for name in found if found.count(name) > 1}) if len(set(found)) < len(found) else []
    if twice:
        places = [place for place, name in enumerate(found) if name == twice[0]]
        raise DataError(
            f"{source} gives the name {twice[0]!r} to the classes {', '.join(map(str, places))}",
            fix="give every class a different name",
        )
    return tuple(found)


def checked_palette(colours: Any, num_classes: int, source: object) -> Palette:
    """One colour of three values in 0 … 255 for each class.

    Raises:
        DataError: They are not that.
    """
    fix = "give one [red, green, blue] a class, or leave the palette out"
    check_kind(colours, list[list[int]], source, fix, "palette")
    if len(colours) != num_classes or any(len(c) != 3 or not all(0 <= v <= 255 for v in c) for c in colours):
        raise DataError(
            f"palette of {source} is not {num_classes} colours of three values in 0 … 255 ({len(colours)} given)",
            fix=fix,
        )
    return tuple((r, g, b) for r, g, b in colours)
