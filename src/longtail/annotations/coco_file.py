"""COCO-style annotation files as index arrays, with masks left in the file until they are asked for."""

import json
import mmap
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from longtail.annotations.checks import shown
from longtail.encoded_masks import as_run_lengths, find_fault
from longtail.errors import DataError

MASKS_FIX = "give polygons of three points or more, or run lengths of the image's size"
#: Lists of an image that make a file federated, as LVIS is: which classes were looked for.
FEDERATED = ("neg_category_ids", "not_exhaustive_category_ids")


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
        areas: float64 (n,), areas as the file has them; NaN where it does not say.
        ignored: bool (n,), objects that LVIS leaves out of the scores.
        federated: Whether the file says which classes were looked for in its images (LVIS).
        notes: What whoever counts, trains or scores should know of how the file was read.
        ids_of_names: Whether the ids of the images were made of the names of their files.
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
    areas: np.ndarray
    ignored: np.ndarray
    federated: bool = False
    notes: tuple[str, ...] = ()
    ids_of_names: bool = False
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

    @cached_property
    def image_ids(self) -> np.ndarray:
        """Id of every image in the order of the file, int64."""
        return np.array([int(image["id"]) for image in self.images], dtype=np.int64)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the C classes; the id where a category has none."""
        return tuple(str(category.get("name", category["id"])) for category in self.categories)

    @cached_property
    def image_index(self) -> np.ndarray:
        """Place of the image of every annotation, int64 (n,)."""
        return np.repeat(np.arange(len(self.images)), np.diff(self.first))

    def size(self, index: int) -> tuple[int, int] | None:
        """Height and width of an image; None where the file does not say, or no image could be so large."""
        height, width = (self.images[index].get(side) for side in ("height", "width"))
        if type(height) is not int or type(width) is not int or min(height, width) < 1 or height * width >= 2**32:
            return None
        return height, width

    def classes_looked_for(self, index: int) -> dict[str, list[int]]:
        """Classes that LVIS's lists name for an image; categories that the file does not list are left out.

        Raises:
            DataError: A list is none, or holds anything but ids.
        """
        lists = {}
        for key in FEDERATED:
            named = self.images[index].get(key, [])
            if not isinstance(named, list) or set(map(type, named)) - {int}:
                raise DataError(f"images[{index}] of {self.path} has the {key} {shown(named)}", fix="list category ids")
            lists[key] = sorted({self.class_of[c] for c in named if c in self.class_of})
        return lists

    def only(self, image_ids: Collection[int]) -> "CocoFile":
        """The annotations of some images alone, by the rules of the whole file."""
        kept = np.flatnonzero(np.isin(self.image_ids, np.fromiter(image_ids, np.int64, len(image_ids))))
        rows = np.concatenate([*(self.of_image(i) for i in kept.tolist()), np.zeros(0, np.int64)]).astype(np.int64)
        columns = ("ids", "labels", "boxes", "crowd", "places", "areas", "ignored")
        return replace(
            self,
            images=[self.images[i] for i in kept.tolist()],
            first=np.concatenate([[0], np.cumsum(np.diff(self.first)[kept])]).astype(np.int64),
            **{name: getattr(self, name)[rows] for name in columns},
        )

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
        from hotcoco import mask

        decoded = np.zeros((len(annotations), *size), dtype=np.uint8)
        rows = np.flatnonzero(self.has_masks[annotations])
        found = [self.segmentation(annotation) for annotation in annotations[rows].tolist()]
        if fault := find_fault(found, [size] * len(found)):
            place, problem = fault
            raise self._broken(int(annotations[rows[place]]), problem)
        for row, segmentation in zip(rows.tolist(), found, strict=True):
            try:
                decoded[row] = mask.decode(as_run_lengths(segmentation, size))
            except (ValueError, TypeError, OverflowError) as error:
                raise self._broken(int(annotations[row]), error) from error
        return decoded

    def checked_masks(self, annotations: np.ndarray) -> list[Any]:
        """Polygons or run lengths of some annotations, each looked at; None where there are none.

        Raises:
            DataError: A mask is neither polygons nor run lengths, is of another size, or does not fill its image.
        """
        found = [self.segmentation(annotation) for annotation in annotations.tolist()]
        rows = [row for row, mask in enumerate(found) if mask is not None]
        sizes = [self.size(int(self.image_index[annotations[row]])) for row in rows]
        if fault := find_fault([found[row] for row in rows], sizes):
            raise self._broken(int(annotations[rows[fault[0]]]), fault[1])
        for row, size in zip(rows, sizes, strict=True):
            if size is None:
                raise self._broken(int(annotations[row]), "its image has no valid height and width")
        return found

    def segmentation(self, annotation: int) -> Any:
        """Polygons or run lengths of an annotation, as the file has them; None where there are none.

        Raises:
            DataError: They are no JSON.
        """
        start, end = self.places[annotation].tolist()
        try:
            return json.loads(self._bytes[start:end]) if end > start else None
        except (ValueError, RecursionError) as error:
            raise self._broken(annotation, error) from error

    def _broken(self, annotation: int, problem: object) -> DataError:
        return DataError(
            f"cannot read the mask of annotation {self.ids[annotation]} of {self.path}: {problem}", fix=MASKS_FIX
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
