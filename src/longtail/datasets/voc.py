"""Pascal VOC data: an XML file of boxes for each image, and lists of the images of each split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from longtail.datasets.annotated import Annotated, coco_table, place_images
from longtail.datasets.coco import Coco
from longtail.datasets.photographs import image_sizes
from longtail.datasets.splits import no_split, spellings
from longtail.errors import ConfigError, DataError
from longtail.folders import matching
from longtail.json_files import read_lines

_OF_CLASS = ("_train", "_val", "_trainval", "_test")  # lists of one class, such as cat_train.txt
_FLAGS = {"": False, "0": False, "false": False, "1": True, "true": True}
_SIDES = ("xmin", "ymin", "xmax", "ymax")


class Voc(Coco):
    """Images with boxes in the layout of Pascal VOC.

    The annotations are ``Annotations/NAME.xml`` under the folder, the images in ``JPEGImages``, and
    ``ImageSets/Main/SPLIT.txt`` lists the names of a split; or each split is a folder of images and XML files. The
    classes are the names of all objects of all splits in alphabetical order. Objects marked ``difficult`` are crowd
    regions: neither targets nor false positives. The options are those of ``Coco``, without ``annotations``.
    """

    def _find(self, root: Path, split: str) -> Annotated:
        return read_voc(root, split)

    def _named(self, root: Path, split: str, annotations: str | Path) -> Annotated:
        raise ConfigError("voc takes no option annotations", fix="put the XML files into ROOT/Annotations")


@dataclass(frozen=True)
class _Record:
    """One XML file: height and width of the image; class, difficulty and corners of every object."""

    file: Path
    size: tuple[int, int] | None
    objects: list[tuple[str, bool, list[float]]]


def is_voc(root: Path) -> bool:
    """Whether a folder has the layout of Pascal VOC."""
    return any(matching(folder, "*.xml") for folder in _annotation_folders(root))


def read_voc(root: Path, split: str | None) -> Annotated:
    """Annotations of a split of Pascal VOC data.

    Raises:
        DataError: A file is missing or no VOC annotation, an object has no box, or there is no such split.
    """
    folders = _annotation_folders(root)
    records = [_read(file) for folder in folders for file in matching(folder, "*.xml")]
    if not records:
        raise DataError(f"no XML files in {root / 'Annotations'}", fix="check the path; see Voc for the layouts")
    mine, has_splits = _of_split(root, folders, records, split)
    names = sorted({name for record in records for name, _, _ in record.objects})
    # VOC counts pixels from 1 and includes the last one; CVAT and others write edges, which may be 0 or fractions
    corners = [value for record in records for _, _, box in record.objects for value in box]
    edges = any(value == 0 or value != int(value) for value in corners)
    images = _image_files(root, folders, mine)
    class_of = {name: c for c, name in enumerate(names)}
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(mine):
        for name, difficult, (left, top, right, bottom) in record.objects:
            x, y = (left, top) if edges else (left - 1, top - 1)
            annotations.append(
                {
                    "image_id": number,
                    "category_id": class_of[name],
                    "bbox": [x, y, right - x, bottom - y],
                    "area": (right - x) * (bottom - y),
                    "iscrowd": int(difficult),
                }
            )
    table = coco_table(folders[0], root, images, _sizes(images, mine), names, annotations)
    notes = [f"boxes are {'edges' if edges else 'pixels counted from 1'}"]
    if marked := sum(a["iscrowd"] for a in annotations):
        notes.append(f"{marked} difficult objects are neither targets nor false positives")
    return Annotated(table, [root], has_splits, "; ".join(notes))


def _annotation_folders(root: Path) -> list[Path]:
    """The one ``Annotations`` folder, or the folders of the splits."""
    found = matching(root, "Annotations", "*/Annotations", "*/*/Annotations")
    if len(found) > 1:
        listed = ", ".join(str(path.parent.relative_to(root)) for path in found)
        raise DataError(f"{root} holds several data sets: {listed}", fix="name the folder of one of them")
    return found or [root / s for split in ("train", "val", "test") for s in spellings(split) if (root / s).is_dir()]


def _of_split(
    root: Path, folders: Sequence[Path], records: Sequence[_Record], split: str | None
) -> tuple[list[_Record], bool]:
    """The records of a split, and whether there are splits."""
    if folders[0].name != "Annotations":
        mine = [record for record in records if record.file.parent.name in spellings(split)]
        if not mine:
            raise no_split(root, split, [folder.name for folder in folders])
        return mine, True
    lists = {path.stem: path for path in matching(folders[0].parent / "ImageSets" / "Main", "*.txt")}
    lists = {name: path for name, path in lists.items() if not name.endswith(_OF_CLASS)}
    if not lists:
        return list(records), False
    found = next((lists[s] for s in spellings(split) if s in lists), None)
    if found is None:
        raise no_split(folders[0].parent, split, lists)
    by_name = {record.file.stem: record for record in records}
    mine = []
    for name in read_lines(found):
        record = by_name.get(name) or by_name.get(name.split()[0])
        if record is None:
            raise DataError(f"{found} lists {name}, which {folders[0]} has no XML file of", fix="restore the file")
        mine.append(record)
    if not mine:
        raise DataError(f"{found} lists no images", fix="give the name of an image on each line")
    return mine, True


def _read(file: Path) -> _Record:
    try:
        tree = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}", fix="give a VOC annotation in XML") from error
    if tree.tag != "annotation":
        raise DataError(f"{file} holds <{tree.tag}>, no <annotation>", fix="give a VOC annotation in XML")
    size = tuple(_number(file, tree.findtext(f"size/{side}") or "0", side) for side in ("height", "width"))
    known = (int(size[0]), int(size[1])) if min(size) > 0 else None
    objects = [_object(file, element) for element in tree.findall("object")]
    return _Record(file, known, objects)


def _object(file: Path, element: ElementTree.Element) -> tuple[str, bool, list[float]]:
    name, box = (element.findtext("name") or "").strip(), element.find("bndbox")
    if not name or box is None:
        lacks = "has no <bndbox>" if name else "has no <name>"
        raise DataError(f"an object {name!r} of {file} {lacks}", fix="give every object a name and an upright box")
    corners = [_number(file, box.findtext(side), side) for side in _SIDES]
    if corners[2] < corners[0] or corners[3] < corners[1]:
        raise DataError(f"an object {name!r} of {file} has the box {corners}", fix="give xmin <= xmax and ymin <= ymax")
    return name, _flag(file, element, "difficult"), corners


def _flag(file: Path, element: ElementTree.Element, what: str) -> bool:
    """0 or 1, as numbers or words; 0 where it is missing or empty."""
    text = (element.findtext(what) or "").strip().lower()
    if text not in _FLAGS:
        raise DataError(f"{file} has the {what} {text[:60]!r}", fix="give 0 or 1")
    return _FLAGS[text]


def _number(file: Path, text: str | None, what: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{file} has the {what} {text!r}, no number", fix="correct the file")
    return value


def _image_files(root: Path, folders: Sequence[Path], records: Sequence[_Record]) -> list[Path]:
    """Image of every record: that of the name of its XML file."""
    base = folders[0].parent if folders[0].name == "Annotations" else root
    places = [folder for folder in (base / "JPEGImages", base / "images") if folder.is_dir()] or [base]
    names = [record.file.relative_to(base).with_suffix("").as_posix() for record in records]
    return place_images(names, places, places[0])


def _sizes(images: Sequence[Path], records: Sequence[_Record]) -> list[tuple[int, int]]:
    unknown = [image for image, record in zip(images, records, strict=True) if record.size is None]
    read = dict(zip(unknown, image_sizes(unknown), strict=True))
    return [record.size or read[image] for image, record in zip(images, records, strict=True)]
