"""``read_coco_file``: the one reader of annotations, with every check that counting, training and scoring rely on."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from longtail.annotations.checks import (
    boxes_of,
    finite_numbers,
    places_in,
    records_of,
    refuse_twice,
    shown,
    whole_numbers,
)
from longtail.annotations.coco_file import FEDERATED, MASKS_FIX, CocoFile
from longtail.annotations.doubts import box_doubts
from longtail.encoded_masks import POLYGON, as_run_lengths, find_fault
from longtail.errors import DataError

# Run lengths in their compressed form have no quotes or braces, polygons neither: both end where they seem to. A bare
# number is no mask, but would pass for the number of one.
_SEGMENTATION = re.compile(rb'"segmentation"\s*:\s*(\[[^"{}]*\]|\{[^{}]*\}|-?\d[^,}\s]*)')
_SHORT = 120  # bytes; lists of too few numbers for a polygon are shorter
_IDS = "give ids as whole numbers from 0 on, images and categories in their lists and in the annotations alike"
_FORMAT = "give a COCO-style file: images, annotations and categories with ids, boxes as [x, y, width, height]"
_BOXES = "give boxes as [x, y, width, height], of no negative size, within 2^31 pixels, or leave bbox out where masks tell it"


def read_coco_file(path: str | Path) -> CocoFile:
    """Read a COCO- or LVIS-style annotation file.

    Fields that nobody counts, trains or scores by are not looked at. Roboflow's empty category 0 is left out, and
    ``notes`` of the result say so.

    Raises:
        DataError: The file is missing, not JSON, or not of that style; an id is no whole number or stands twice;
            an annotation names an image or a category that is not listed; a box is not four finite numbers or of negative
            size; a mask is none; two categories have one name. Whether run lengths fill their image shows when they are
            read.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read annotations from {path}: {error}", fix=_FORMAT) from error
    return _table(path, data)


def annotation_table(content: Mapping[str, Any], source: str | Path, *, ids_of_names: bool = False) -> CocoFile:
    """Annotations of another layout in memory, with the checks of a COCO-style file.

    Args:
        content: ``images``, ``annotations`` and ``categories``, as a COCO-style file holds them.
        source: File or folder that they come from: names them in errors.
        ids_of_names: Whether the ids of the images were made of the names of their files.

    Raises:
        DataError: See ``read_coco_file``.
    """
    data = json.dumps(content).encode()
    return replace(_table(Path(source), data), content=data, ids_of_names=ids_of_names)


def _table(path: Path, data: bytes) -> CocoFile:
    content, spans, faults = _read_without_masks(path, data)
    images, categories = (records_of(content, key, path, _FORMAT) for key in ("images", "categories"))
    annotations = records_of(content, "annotations", path, _FORMAT, needed=False)
    image_ids = whole_numbers(path, "images", images, "id", _IDS)
    category_ids = whole_numbers(path, "categories", categories, "id", _IDS)
    ids, of_image, of_category = (
        whole_numbers(path, "annotations", annotations, key, _IDS) for key in ("id", "image_id", "category_id")
    )
    for what, values in (("image", image_ids), ("category", category_ids), ("annotation", ids)):
        refuse_twice(values, what, path)
    categories, notes = _listed_categories(path, categories, category_ids, of_category)
    image_index = _index_of(path, "image", of_image, image_ids, ids)
    labels = _index_of(path, "category", of_category, np.array([c["id"] for c in categories], dtype=np.int64), ids)
    masks = _numbers_of_masks(path, annotations, ids, faults)
    places = np.where(masks[:, None] >= 0, spans[masks], 0) if len(spans) else np.zeros((len(ids), 2), np.int64)
    boxes = _boxes(path, data, annotations, ids, places, [images[i] for i in image_index])
    order = np.argsort(image_index, kind="stable")
    file = CocoFile(
        path,
        images,
        categories,
        first=np.searchsorted(image_index[order], np.arange(len(images) + 1)),
        ids=ids[order],
        labels=labels[order],
        boxes=boxes[order],
        crowd=_flags(path, annotations, "iscrowd", ids)[order],
        places=places[order],
        areas=_areas(path, annotations, ids)[order],
        ignored=_flags(path, annotations, "ignore", ids)[order],
        federated=any(key in image for image in images for key in FEDERATED),
        notes=notes,
    )
    return replace(file, notes=(*notes, *box_doubts(file)))


def _read_without_masks(path: Path, data: bytes) -> tuple[dict[str, Any], np.ndarray, dict[int, str]]:
    """The file with every mask replaced by its number, first and last byte of each, and those that cannot be masks."""
    try:
        if not json.detect_encoding(data).startswith("utf-8"):
            raise ValueError("it is not in UTF-8")
        spans = np.array([match.span(1) for match in _SEGMENTATION.finditer(data)], dtype=np.int64).reshape(-1, 2)
        cuts = [0, *spans.ravel().tolist(), len(data)]
        pieces = [
            b"%d" % (number // 2) if number % 2 else data[start:end]
            for number, (start, end) in enumerate(pairwise(cuts))
        ]
        content = json.loads(b"".join(pieces))
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read annotations from {path}: it is not in UTF-8", fix="save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot read annotations from {path}: {error}", fix=_FORMAT) from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no annotations but a {type(content).__name__}", fix=_FORMAT)
    faults: dict[int, str] = {}
    for number in np.flatnonzero(spans[:, 1] - spans[:, 0] <= _SHORT).tolist():
        start, end = spans[number].tolist()
        if data.count(b",", start, end) < POLYGON - 1 and not data.startswith(b"{", start):
            if data[start:end].strip(b"[], \t\r\n"):
                faults[number] = data[start:end].decode()
            else:  # [] and [[]]
                spans[number] = 0
    return content, spans, faults


def _listed_categories(
    path: Path, categories: list[dict[str, Any]], ids: np.ndarray, named: np.ndarray
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The categories by ascending id, without Roboflow's root, and a note on that.

    Roboflow lists the project as category 0, above all others, and never annotates it.
    """
    listed = [categories[i] for i in np.argsort(ids, kind="stable")]
    notes: tuple[str, ...] = ()
    root = listed[0] if len(listed) > 1 else {}
    above = root.get("supercategory") in ("none", None, "") and root.get("name")
    if above and ids.min() == 0 and not (named == 0).any() and all(c.get("supercategory") == above for c in listed[1:]):
        listed = listed[1:]
        notes = (f"category 0, {above!r}, of {path.name} is Roboflow's root of all others and left out",)
    fix = "give every category a different name"
    names = [category.get("name", category["id"]) for category in listed]
    for category, name in zip(listed, names, strict=True):
        if type(name) not in (str, int, float) or name == "":
            raise DataError(f"category {category['id']} of {path} has the name {shown(name)}, no text", fix=fix)
    if len({*map(str, names)}) < len(names):
        twice = next(name for name in names if [*map(str, names)].count(str(name)) > 1)
        same = [str(c["id"]) for c, name in zip(listed, names, strict=True) if str(name) == str(twice)]
        raise DataError(f"categories {', '.join(same)} of {path} have one name, {twice!r}", fix=fix)
    return listed, notes


def _index_of(path: Path, what: str, named: np.ndarray, known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Place in ``known`` of the image or category that every annotation names."""
    place, there = places_in(known, named)
    if not there.all():
        lost = int(np.argmin(there))
        raise DataError(
            f"annotation {ids[lost]} of {path} names {what} {named[lost]}, which the file does not list",
            fix=f"add the {what} or remove the annotation",
        )
    return place


def _numbers_of_masks(
    path: Path, annotations: list[dict[str, Any]], ids: np.ndarray, faults: dict[int, str]
) -> np.ndarray:
    """Number of the mask of every annotation, -1 where there is none."""
    numbers = [-1 if (mask := a.get("segmentation")) is None else mask for a in annotations]
    if faults or not set(map(type, numbers)) <= {int}:
        for identity, number in zip(ids, numbers, strict=True):
            if type(number) is not int or number in faults:
                mask = str(faults.get(number) if type(number) is int else number)
                raise DataError(f"annotation {identity} of {path} has the mask {mask[:60]}", fix=MASKS_FIX)
    return np.array(numbers, dtype=np.int64)


def _boxes(
    path: Path,
    data: bytes,
    annotations: list[dict[str, Any]],
    ids: np.ndarray,
    places: np.ndarray,
    images: list[dict[str, Any]],
) -> np.ndarray:
    """Boxes xyxy of all annotations, float64 (n, 4); where one has a mask and no box, the mask's."""
    given = [a.get("bbox") for a in annotations]
    for row in [i for i, box in enumerate(given) if box is None and places[i, 1]]:
        size = images[row].get("height"), images[row].get("width")
        try:
            segmentation = json.loads(data[slice(*places[row].tolist())])
            if fault := find_fault([segmentation], [None]):
                raise ValueError(fault[1])
            given[row] = box_of_mask(segmentation, size)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise DataError(
                f"annotation {ids[row]} of {path} has no box, and none can be made from its mask: {error}", fix=_BOXES
            ) from error
    boxes, wrong = boxes_of(given)
    if wrong is not None:
        has = f"has the box {shown(given[wrong])}" if "bbox" in annotations[wrong] else "has neither a box nor a mask"
        raise DataError(f"annotation {ids[wrong]} of {path} {has}", fix=_BOXES)
    return boxes


def box_of_mask(segmentation: Any, size: Any) -> list[float]:
    """Box [x, y, width, height] around polygons or run lengths; polygons reach as far as their points, as in COCO."""
    from hotcoco import mask

    if isinstance(segmentation, dict):
        return mask.to_bbox(as_run_lengths(segmentation, size)).tolist()
    points = np.array([n for polygon in segmentation for n in polygon], dtype=np.float64).reshape(-1, 2)
    return [*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()]


def _flags(path: Path, annotations: list[dict[str, Any]], key: str, ids: np.ndarray) -> np.ndarray:
    """A column of 0 and 1, 0 where an annotation lacks it; bool (n,)."""
    flags = [a.get(key, 0) for a in annotations]
    if not set(map(type, flags)) <= {int, bool, float} or not {0, 1}.issuperset(flags):
        place = next(i for i, flag in enumerate(flags) if type(flag) not in (int, bool, float) or flag not in (0, 1))
        raise DataError(f"annotation {ids[place]} of {path} has the {key} {shown(flags[place])}", fix="give 0 or 1")
    return np.array(flags, dtype=bool)


def _areas(path: Path, annotations: list[dict[str, Any]], ids: np.ndarray) -> np.ndarray:
    """Areas, by which objects are small, medium or large; NaN where the file does not say."""
    given = [a.get("area") for a in annotations]
    stated = [i for i, area in enumerate(given) if area is not None]
    numbers, wrong = finite_numbers([given[i] for i in stated])
    if wrong is None and (numbers < 0).any():
        wrong = int(np.argmax(numbers < 0))
    if wrong is not None:
        raise DataError(
            f"annotation {ids[stated[wrong]]} of {path} has the area {shown(given[stated[wrong]])}",
            fix="give areas in square pixels, or leave them out: those of the masks or boxes are then taken",
        )
    areas = np.full(len(annotations), np.nan)
    areas[stated] = numbers
    return areas
