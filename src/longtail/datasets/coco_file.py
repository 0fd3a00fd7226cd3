"""COCO-style annotation files as index arrays, with masks left in the file until they are asked for."""

import json
import mmap
import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from longtail.errors import DataError

# Run lengths in their compressed form have no quotes or braces, polygons neither: both end where they seem to.
_SEGMENTATION = re.compile(rb'"segmentation"\s*:\s*(\[[^"{}]*\]|\{[^{}]*\})')
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
            DataError: A mask is neither polygons nor run lengths, or is of another size.
        """
        decoded = np.zeros((len(annotations), *size), dtype=np.uint8)
        for canvas, annotation in zip(decoded, annotations.tolist(), strict=True):
            canvas[:] = decode_segmentation(self.segmentation(annotation), size, self._named(annotation))
        return decoded

    def segmentation(self, annotation: int) -> Any:
        """Polygons or run lengths of an annotation, as the file has them; None where there are none."""
        start, end = self.places[annotation].tolist()
        return json.loads(self._bytes[start:end]) if end > start else None

    def _named(self, annotation: int) -> str:
        return f"annotation {self.ids[annotation]} of {self.path}"

    @property
    def _bytes(self) -> Any:
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
        DataError: The file is missing, not JSON, or not of that style; an id is there twice; an annotation names an
            image or a category that is not; a box is not finite or of negative size.
    """
    path = Path(path)
    content, spans = _read_without_masks(path)
    try:
        images, categories, annotations = content["images"], content["categories"], content.get("annotations", [])
        categories = sorted(categories, key=lambda category: category["id"])
        image_ids = np.array([image["id"] for image in images], dtype=np.int64)
        category_ids = np.array([category["id"] for category in categories], dtype=np.int64)
        ids = np.array([a["id"] for a in annotations], dtype=np.int64)
        of_image = np.array([a["image_id"] for a in annotations], dtype=np.int64)
        of_category = np.array([a["category_id"] for a in annotations], dtype=np.int64)
        boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
        crowd = np.array([bool(a.get("iscrowd", 0)) for a in annotations], dtype=bool)
        masks = np.array([a.get("segmentation", -1) for a in annotations], dtype=np.int64)
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
        path, images, categories, first, ids[order], labels[order], boxes[order], crowd[order], places[order]
    )


def decode_segmentation(segmentation: Any, size: tuple[int, int], name: str) -> np.ndarray:
    """Mask uint8 (h, w) of polygons, or of compressed or uncompressed run lengths; all 0 for None.

    Args:
        segmentation: As the file has it.
        size: (h, w) of the image.
        name: Names the annotation in errors.
    """
    from hotcoco import mask

    if not segmentation:
        return np.zeros(size, dtype=np.uint8)
    try:
        if isinstance(segmentation, dict):
            if tuple(segmentation["size"]) != tuple(size):
                raise ValueError(f"the mask is of size {segmentation['size']}, its image of {list(size)}")
            return mask.decode(mask.frPyObjects(segmentation, *size))
        return mask.decode(mask.merge(mask.frPyObjects(segmentation, *size)))
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"cannot read the mask of {name}: {error}", fix="give polygons or run lengths") from error


def _read_without_masks(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The file with every mask replaced by its number, and first and last byte of each."""
    try:
        data = path.read_bytes()
        spans = np.array([match.span(1) for match in _SEGMENTATION.finditer(data)], dtype=np.int64).reshape(-1, 2)
        cuts = [0, *spans.ravel().tolist(), len(data)]
        kept = (data[start:end] for start, end in pairwise(cuts))
        pieces = []
        for number, piece in enumerate(kept):
            pieces.append(b"%d" % (number // 2) if number % 2 else piece)
        content = json.loads(b"".join(pieces))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read annotations from {path}: {error}", fix=_FORMAT) from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no annotations but a {type(content).__name__}", fix=_FORMAT)
    empty = spans[:, 1] - spans[:, 0] <= 2  # []
    spans[empty] = 0
    return content, spans


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
