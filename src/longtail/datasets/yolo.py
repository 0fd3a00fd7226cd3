"""YOLO data: a text file of boxes or polygons for each image, and ``data.yaml``."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from longtail.classes_file import distinct_names, read_classes_file
from longtail.datasets.annotated import Annotated, coco_table
from longtail.datasets.coco import Coco, path_for_split
from longtail.datasets.pairing import IMAGE_SUFFIXES
from longtail.datasets.photographs import image_sizes
from longtail.datasets.splits import no_split, spellings
from longtail.errors import DataError
from longtail.folders import files_in, matching
from longtail.json_files import read_lines, read_text

_OUTSIDE = 0.01  # how far numbers may lie outside of 0 … 1: exports round
_LINE = "give `class x y width height` or `class x1 y1 x2 y2 x3 y3 …`, shares of the image from 0 to 1"


class Yolo(Coco):
    """Images with objects in the layout of YOLO.

    ``data.yaml`` holds ``names`` and the images of each split: folders, lists of files (``train.txt``), or several of
    them. Without it, ``classes.txt``, ``obj.names`` or ``obj.data`` hold the names, and the images are in ``images`` or
    the folder itself. Labels are in the folder whose path has ``labels`` for ``images``, or next to the images. An image
    without a label file has no objects.

    A line is a box (class, centre, size) or a polygon (class, points), in shares of the image. The options are those of
    ``Coco``, but ``annotations`` names the YAML file.
    """

    def _find(self, root: Path, split: str) -> Annotated:
        return read_yolo(root, split)

    def _named(self, root: Path, split: str, annotations: str | Path) -> Annotated:
        return read_yolo(root, split, path_for_split(root, annotations, split))


class _Description(NamedTuple):
    """The file that describes the data."""

    file: Path
    names: list[str]
    splits: Mapping[str, Any]
    base: Path


def is_yolo(root: Path) -> bool:
    """Whether a folder has the layout of YOLO."""
    if any("names" in _yaml(path) for path in _yaml_files(root)) or (root / "obj.data").is_file():
        return True
    labels = next(iter(files_in(root / "labels", {".txt"})), None) if (root / "labels").is_dir() else None
    return labels is not None and _names_file(root) is not None


def read_yolo(root: Path, split: str | None, description: Path | None = None) -> Annotated:
    """Annotations of a split of YOLO data.

    Args:
        root: Folder of the data set.
        split: The split.
        description: The YAML file, where there are several.

    Raises:
        DataError: Names, images or labels are missing, or a line is no box or polygon of a known class.
    """
    known = _describe(root, description)
    images, has_splits = _images(root, known, split)
    labels = _label_files(images)
    if not any(labels):
        raise DataError(
            f"none of the {len(images)} images of {root} has a label file, {images[0]} the first",
            fix="put NAME.txt into a folder `labels` next to the folder `images`, or next to the image",
        )
    records: list[dict[str, Any]] = []
    twice = 0
    sizes = image_sizes(images)
    for number, (file, (height, width)) in enumerate(zip(labels, sizes, strict=True)):
        lines = list(_lines(file, known)) if file else []
        distinct = dict.fromkeys(lines)
        twice += len(lines) - len(distinct)
        for category, values in distinct:
            shape = _box(values, width, height) if len(values) == 4 else _polygon(values, width, height)
            records.append({"image_id": number, "category_id": category, **shape})
    notes = {
        "{} images have no label file and so no objects": labels.count(None),
        "{} lines that stand twice in their file are read once": twice,
    }
    note = "; ".join(words.format(count) for words, count in notes.items() if count)
    return Annotated(coco_table(known.file, root, images, sizes, known.names, records), [root], has_splits, note)


def _describe(root: Path, file: Path | None) -> _Description:
    files = [file] if file else [path for path in _yaml_files(root) if "names" in _yaml(path)]
    if len(files) > 1:
        listed = ", ".join(path.name for path in files)
        raise DataError(f"{root} has several descriptions: {listed}", fix="name one with annotations=…")
    if files:
        content = _yaml(files[0])
        if "kpt_shape" in content:
            raise DataError(
                f"{files[0]} describes key points (kpt_shape), which are no boxes or polygons",
                fix="export the boxes alone, without kpt_shape",
            )
        base = _under(root, str(content.get("path") or ".")) or root
        return _Description(files[0], _names(files[0], content), content, base)
    if (root / "obj.data").is_file():
        pairs = (line.split("=", 1) for line in read_lines(root / "obj.data") if "=" in line)
        content = {key.strip(): value.strip() for key, value in pairs}
        found = _under(root, content.get("names", "obj.names"))
        if found is None:
            raise DataError(f"{root / 'obj.data'} names {content.get('names')}, which is not there", fix="restore it")
        return _Description(root / "obj.data", list(read_classes_file(found).names), content, root)
    found = _names_file(root)
    if found is None:
        raise DataError(
            f"{root} has no data.yaml with names, classes.txt or obj.names",
            fix="write `names: [cat, dog]` into data.yaml",
        )
    return _Description(found, list(read_classes_file(found).names), {}, root)


def _names(file: Path, content: Mapping[str, Any]) -> list[str]:
    """Class names of a YAML file: a list, or a mapping from 0 … C-1."""
    names, number = content.get("names"), content.get("nc")
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[c] for c in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, (str, int, float)) for name in names):
        raise DataError(f"names of {file} are {names!r}", fix="give a list of names, or a mapping from 0, 1, 2 …")
    if number is not None and number != len(names):
        raise DataError(f"{file} has nc: {number!r} and {len(names)} names", fix="correct nc, or leave it out")
    return list(distinct_names([str(name) for name in names], file))


def _images(root: Path, known: _Description, split: str | None) -> tuple[list[Path], bool]:
    """Images of a split in order, and whether the data have splits."""
    named = {key: known.splits[key] for key in ("train", "val", "valid", "test") if known.splits.get(key)}
    key = next((s for s in spellings(split) if s in named), None)
    # the lists of Darknet's obj.data are called train alone: they hold all images
    if key is not None and (len(named) > 1 or known.file.suffix in _YAML):
        return _of_sources(named[key], known, root), True
    folders = [path for s in spellings(split) for path in (root / "images" / s, root / s) if path.is_dir()]
    if folders:
        return _of_folder(folders[0]), True
    if named and (len(named) > 1 or known.file.suffix in _YAML):
        raise no_split(known.file, split, named)
    if named:
        return _of_sources(next(iter(named.values())), known, root), False
    return _of_folder(root / "images" if (root / "images").is_dir() else root), False


def _of_sources(sources: Any, known: _Description, root: Path) -> list[Path]:
    found: dict[Path, None] = {}
    for source in sources if isinstance(sources, list) else [sources]:
        path = _under(known.base, str(source)) or _under(root, str(source))
        if path is None:
            raise DataError(f"{known.file} names {source}, which is not under {known.base}", fix="correct the path")
        found |= dict.fromkeys(_of_folder(path) if path.is_dir() else _of_list(path, known.base))
    return list(found)


def _of_folder(folder: Path) -> list[Path]:
    images = files_in(folder, IMAGE_SUFFIXES)
    if not images:
        raise DataError(f"no images in {folder}", fix="check the path and the split")
    return images


def _of_list(file: Path, base: Path) -> list[Path]:
    """Images that a text file lists, one per line."""
    found = []
    for name in read_lines(file):
        path = _under(file.parent, name) or _under(base, name)
        if path is None:
            raise DataError(f"{file} names {name}, which does not exist", fix="restore the image")
        found.append(path)
    if not found:
        raise DataError(f"{file} lists no images", fix="give the file of an image on each line")
    return found


def _under(base: Path, name: str) -> Path | None:
    """What a path names, or its longest end that exists under a folder: ``../train/images`` is ``train/images`` there."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part not in ("..", "/")]
    ends = [base.joinpath(*parts[start:]) for start in range(len(parts))]
    literal = [base / path]
    return next((end for end in (ends + literal if ".." in path.parts else literal + ends) if end.exists()), None)


def _label_files(images: Sequence[Path]) -> list[Path | None]:
    """Label file of every image; None where there is none."""
    listed: dict[Path, set[str]] = {}
    found: list[Path | None] = []
    for image in images:
        places = [_labels_of(image.parent), image.parent]
        for folder in places:
            if folder not in listed:
                listed[folder] = {path.name for path in folder.glob("*.txt")} if folder.is_dir() else set()
        name = image.with_suffix(".txt").name
        found.append(next((folder / name for folder in places if name in listed[folder]), None))
    return found


def _labels_of(folder: Path) -> Path:
    """The folder with ``labels`` for its last part that is ``images``."""
    parts = list(folder.parts)
    last = next((i for i in reversed(range(len(parts))) if parts[i] == "images"), None)
    return folder if last is None else Path(*parts[:last], "labels", *parts[last + 1 :])


def _lines(file: Path, known: _Description) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Class and numbers of every line of a label file."""
    for number, line in enumerate(read_text(file, "boxes", _LINE).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number} of {file}"
        try:
            first, *values = map(float, line.split())
            category = int(first)
        except (ValueError, OverflowError) as error:
            raise DataError(f"{where} is {line[:60]!r}", fix=_LINE) from error
        if category != first or not 0 <= category < len(known.names):
            raise DataError(
                f"{where} is of class {line.split()[0]}, but {known.file} names {len(known.names)} classes",
                fix="correct the class, which counts from 0, or add its name",
            )
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            confidence = ", maybe a box with a confidence" if len(values) == 5 else ""
            raise DataError(f"{where} has {len(values)} numbers after the class{confidence}", fix=_LINE)
        if not all(-_OUTSIDE <= value <= 1 + _OUTSIDE for value in values) or (
            len(values) == 4 and min(values[2:]) < 0
        ):
            raise DataError(f"{where} has numbers that are no shares of the image: {line[:60]!r}", fix=_LINE)
        yield category, tuple(values)


def _box(values: Sequence[float], width: int, height: int) -> dict[str, Any]:
    x, y, w, h = (value * side for value, side in zip(values, (width, height, width, height), strict=True))
    return {"bbox": [x - w / 2, y - h / 2, w, h], "area": w * h}


def _polygon(values: Sequence[float], width: int, height: int) -> dict[str, Any]:
    xs, ys = [x * width for x in values[::2]], [y * height for y in values[1::2]]
    around = zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]], strict=True)
    return {
        "bbox": [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)],
        "area": abs(sum(x0 * y1 - x1 * y0 for x0, y0, x1, y1 in around)) / 2,
        "segmentation": [[value for point in zip(xs, ys, strict=True) for value in point]],
    }


_YAML = (".yaml", ".yml")


def _yaml_files(root: Path) -> list[Path]:
    return matching(root, *(f"*{suffix}" for suffix in _YAML))


def _yaml(file: Path) -> dict[str, Any]:
    fix = "give a YAML file such as `names: [cat, dog]`"
    try:
        content = yaml.safe_load(read_text(file, "names and splits", fix))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"cannot read names and splits from {file}: {error}", fix=fix) from error
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def _names_file(root: Path) -> Path | None:
    return next(
        (root / name for name in ("classes.txt", "obj.names", "labels/classes.txt") if (root / name).is_file()), None
    )
