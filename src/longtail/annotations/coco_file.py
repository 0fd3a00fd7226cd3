"""COCO-style annotation files as index arrays, with masks left in the file until they are asked for."""

import json
import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from longtail.encoded_masks import POLYGON, find_fault
from longtail.errors import DataError

# Run lengths in their compressed form have no quotes or braces, polygons neither: both end where they seem to. A bare
# number is no mask, but would pass for the number of one.
_SEGMENTATION = re.compile(rb'"segmentation"\s*:\s*(\[[^"{}]*\]|\{[^{}]*\}|-?\d[^,}\s]*)')
_SHORT = 120  # bytes; lists of too few numbers for a polygon are shorter
_MASKS = "give polygons of three points or more, or run lengths of the image's size"
_IDS = "give ids as whole numbers from 0 on, images and categories in their lists and in the annotations alike"
_FORMAT = "give a COCO-style file: images, annotations and categories with ids, boxes as [x, y, width, height]"


@dataclass(frozen=True, eq=False)
class CocoFile:
    """Annotations of one file, sorted by image; within an image in the order of the file.

    Polygons and run lengths are most of such a file (LVIS: over nine tenths). They are skipped in reading and only
    their places kept, so that 1.2 million annotations take seconds and little memory, and workers share nothing but
    the file.

    Args:
        path: The file.
        images: The file's records of the images, in its order.
        categories: The file's records of the categories, by ascending id.
        first: int64 (images + 1,), place of the first annotation of every image.
        ids: int64 (n,), id of every annotation.
        labels: int64 (n,), class ids 0 … C-1.
        boxes: float64 (n, 4), xyxy as the file has them.
        crowd: bool (n,).
        places: int64 (n, 2), first and last byte of every mask in the file; 0, 0 where there is none.
        content: The bytes that ``places`` point into, where they are not those of the file.
    """

    path: Path
    images: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    first: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray
    places: np.ndarray
    content: bytes | None = field(default=None, repr=False)
    _open: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def num_classes(self) -> int:
        """Number of categories, C."""
        return len(self.categories)

    @cached_property
    def class_of(self) -> dict[int, int]:
        """Category id -> class id."""
        return {category["id"]: c for c, category in enumerate(self.categories)}

    def of_image(self, index: int) -> np.ndarray:
        """Places of the annotations of an image, int64."""
        return np.arange(self.first[index], self.first[index + 1])

    @property
    def has_masks(self) -> np.ndarray:
        """Whether each annotation has a mask, bool (n,)."""
        return self.places[:, 1] > self.places[:, 0]

    def masks(self, annotations: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Decoded masks uint8 (n, h, w) of some annotations of an image of this size.

        Raises:
            DataError: A mask is neither polygons nor run lengths, is of another size, or does not fill its image.
        """
        decoded = np.zeros((len(annotations), *size), dtype=np.uint8)
        rows = np.flatnonzero(self.has_masks[annotations])
        found = [self.segmentation(annotation) for annotation in annotations[rows].tolist()]
        if fault := find_fault(found, [size] * len(found)):
            place, problem = fault
            raise self._broken(int(annotations[rows[place]]), problem)
        for row, segmentation in zip(rows.tolist(), found, strict=True):
            try:
                decoded[row] = _decoded(segmentation, size)
            except (ValueError, TypeError) as error:
                raise self._broken(int(annotations[row]), error) from error
        return decoded

    def segmentation(self, annotation: int) -> Any:
        """Polygons or run lengths of an annotation, as the file has them; None where there are none."""
        start, end = self.places[annotation].tolist()
        return json.loads(self._bytes[start:end]) if end > start else None

    def _broken(self, annotation: int, problem: object) -> DataError:
        return DataError(
            f"cannot read the mask of annotation {self.ids[annotation]} of {self.path}: {problem}", fix=_MASKS
        )

    @property
    def _bytes(self) -> Any:
        if self.content is not None:
            return self.content
        if "bytes" not in self._open:
            with self.path.open("rb") as file:
                self._open["bytes"] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._open["bytes"]

    def __getstate__(self) -> dict[str, Any]:
        """Workers open the file for themselves."""
        return {**self.__dict__, "_open": {}}


def read_coco_file(path: str | Path) -> CocoFile:
    """Read a COCO- or LVIS-style annotation file.

    Raises:
        DataError: The file is missing, not JSON, or not of that style; an id is no whole number or there twice; an
            annotation names an image or a category that is not; a box is not finite or of negative size; a mask cannot
            be one. Whether run lengths fill their image shows when they are read.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read annotations from {path}: {error}", fix=_FORMAT) from error
    return _table(path, data)


def annotation_table(content: Mapping[str, Any], source: str | Path) -> CocoFile:
    """Annotations of another layout in memory, with the checks of a COCO-style file.

    Args:
        content: ``images``, ``annotations`` and ``categories``, as a COCO-style file holds them.
        source: File or folder that they come from: names them in errors.

    Raises:
        DataError: See ``read_coco_file``.
    """
    data = json.dumps(content).encode()
    return replace(_table(Path(source), data), content=data)


def _table(path: Path, data: bytes) -> CocoFile:
    content, spans, faults = _read_without_masks(path, data)
    try:
        images, categories, annotations = content["images"], content["categories"], content.get("annotations", [])
        image_ids = whole_numbers(path, "images", images, "id", _IDS)
        category_ids = np.sort(whole_numbers(path, "categories", categories, "id", _IDS))
        categories = sorted(categories, key=lambda category: category["id"])
        ids, of_image, of_category = (
            whole_numbers(path, "annotations", annotations, key, _IDS) for key in ("id", "image_id", "category_id")
        )
        boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
        crowd = [a.get("iscrowd", 0) for a in annotations]
        if not {0, 1}.issuperset(crowd):
            place = next(i for i, flag in enumerate(crowd) if flag not in (0, 1))
            raise DataError(f"annotation {ids[place]} of {path} has the iscrowd {crowd[place]!r}", fix="give 0 or 1")
        masks = _numbers_of_masks(path, annotations, ids, faults)
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        lacks = f"{path} lacks {error}" if isinstance(error, KeyError) else f"{path}: {error}"
        raise DataError(lacks, fix=_FORMAT) from error
    for what, values in (("image", image_ids), ("category", category_ids), ("annotation", ids)):
        _refuse_twice(path, what, values)
    image_index = _index_of(path, "image", of_image, image_ids, ids)
    labels = _index_of(path, "category", of_category, category_ids, ids)
    _check_boxes(path, boxes, ids)
    boxes[:, 2:] += boxes[:, :2]
    places = np.where(masks[:, None] >= 0, spans[masks], 0) if len(spans) else np.zeros((len(ids), 2), np.int64)
    order = np.argsort(image_index, kind="stable")
    first = np.searchsorted(image_index[order], np.arange(len(images) + 1))
    return CocoFile(
        path,
        images,
        categories,
        first,
        ids[order],
        labels[order],
        boxes[order],
        np.array(crowd, dtype=bool)[order],
        places[order],
    )


def whole_numbers(path: Path, name: str, records: list[dict[str, Any]], key: str, fix: str) -> np.ndarray:
    """What the records of a list have under a key, int64: the evaluator takes only whole numbers from 0 on.

    Raises:
        DataError: Another value, such as text.
    """
    values = [record[key] for record in records]
    if set(map(type, values)) <= {int, float}:
        numbers = np.array(values, dtype=np.float64)
        wrong = ~((numbers >= 0) & (numbers < 2**63) & (numbers == np.floor(numbers)))
    else:
        wrong = np.array([type(value) not in (int, float) for value in values])
    if wrong.any():
        place = int(np.argmax(wrong))
        raise DataError(f"{name}[{place}] of {path} has the {key} {values[place]!r}, no whole number", fix=fix)
    return np.array(values, dtype=np.int64)


def _numbers_of_masks(
    path: Path, annotations: list[dict[str, Any]], ids: np.ndarray, faults: dict[int, str]
) -> np.ndarray:
    """Number of the mask of every annotation, -1 where there is none."""
    numbers = [-1 if (mask := a.get("segmentation")) is None else mask for a in annotations]
    if faults or not set(map(type, numbers)) <= {int}:
        for identity, number in zip(ids, numbers, strict=True):
            if type(number) is not int or number in faults:
                mask = str(faults.get(number) if type(number) is int else number)
                raise DataError(f"annotation {identity} of {path} has the mask {mask[:60]}", fix=_MASKS)
    return np.array(numbers, dtype=np.int64)


def _decoded(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """Mask uint8 (h, w) of run lengths, or of polygons: those of less than three points enclose nothing."""
    from hotcoco import mask

    if isinstance(segmentation, dict):
        return mask.decode(mask.frPyObjects(segmentation, *size))
    polygons = [polygon for polygon in segmentation if len(polygon) >= POLYGON]
    return mask.decode(mask.merge(mask.frPyObjects(polygons, *size)))


def _read_without_masks(path: Path, data: bytes) -> tuple[dict[str, Any], np.ndarray, dict[int, str]]:
    """The file with every mask replaced by its number, first and last byte of each, and those that cannot be masks."""
    try:
        if not json.detect_encoding(data).startswith("utf-8"):
            raise ValueError("it is not in UTF-8")
        spans = np.array([match.span(1) for match in _SEGMENTATION.finditer(data)], dtype=np.int64).reshape(-1, 2)
        cuts = [0, *spans.ravel().tolist(), len(data)]
        kept = (data[start:end] for start, end in pairwise(cuts))
        pieces = []
        for number, piece in enumerate(kept):
            pieces.append(b"%d" % (number // 2) if number % 2 else piece)
        content = json.loads(b"".join(pieces))
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


def _refuse_twice(path: Path, what: str, ids: np.ndarray) -> None:
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise DataError(
            f"{what} id {values[counts > 1][0]} stands {counts[counts > 1][0]} times in {path}",
            fix=f"give every {what} an id of its own",
        )


def _index_of(path: Path, what: str, named: np.ndarray, known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Position in ``known`` of the image or category that every annotation names."""
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known[order], named)
    place = np.minimum(place, max(len(known) - 1, 0))
    wrong = known[order][place] != named if len(known) else np.ones(len(named), dtype=bool)
    if wrong.any():
        raise DataError(
            f"annotation {ids[wrong][0]} of {path} names {what} {named[wrong][0]}, which the file does not list",
            fix=f"add the {what} or remove the annotation",
        )
    return order[place] if len(known) else place


def _check_boxes(path: Path, boxes: np.ndarray, ids: np.ndarray) -> None:
    wrong = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] < 0).any(axis=1)
    if wrong.any():
        raise DataError(
            f"annotation {ids[wrong][0]} of {path} has the box {boxes[wrong][0].tolist()}",
            fix="give boxes as [x, y, width, height], finite and of no negative size",
        )
