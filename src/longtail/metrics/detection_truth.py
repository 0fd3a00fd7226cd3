"""Annotations to score detections against."""

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from longtail.annotations.checks import whole_numbers
from longtail.annotations.coco_file import FEDERATED, CocoFile
from longtail.annotations.read import annotation_table, read_coco_file
from longtail.encoded_masks import as_run_lengths, text_mask
from longtail.errors import DataError
from longtail.frequency.count_instances import counted_labels
from longtail.frequency.counts import ClassFrequency
from longtail.frequency.groups import CategoryGroups


class Objects(NamedTuple):
    """Annotations of some images.

    Args:
        rows: int64 (n,), place of each in the file.
        images: int64 (n,), place of its image among ``DetectionTruth.image_ids``.
        labels: int64 (n,), class ids 0 … C-1.
        boxes: float64 (n, 4), x, y, width, height.
        areas: float64 (n,), by which an object is small, medium or large.
        crowd: bool (n,).
        ignored: bool (n,), objects that LVIS leaves out.
        masks: n polygons or run lengths; None where boxes alone are scored.
        absent: int64, ``image * C + class`` of the classes that were looked for in vain (LVIS).
        unsure: int64, the same of the classes that may be there more often than annotated (LVIS).
    """

    rows: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray
    masks: list[Any] | None
    absent: np.ndarray
    unsure: np.ndarray


class DetectionTruth:
    """Annotations to score detections against.

    Args:
        annotations: COCO- or LVIS-style JSON file, its content, or what was read of it.

    Attributes:
        file: The annotations.
        category_ids: int64 (C,), category id of every class, ascending.
        class_names: Names of the C classes.
        image_ids: int64, ids of all images, ascending. Nothing but their places among these goes to the evaluator.
        federated: Whether the file says which classes were looked for in its images (LVIS): others are then neither
            right nor wrong.

    Raises:
        DataError: The file cannot be read, see ``read_coco_file``, or has no images or no categories.
    """

    def __init__(self, annotations: str | Path | Mapping[str, Any] | CocoFile) -> None:
        if isinstance(annotations, CocoFile):
            self.file = annotations
        elif isinstance(annotations, Mapping):
            self.file = annotation_table(annotations, "the annotations")
        else:
            self.file = read_coco_file(annotations)
        if not self.file.categories or not self.file.images:
            raise DataError(f"{self.file.path} has no categories or no images", fix="give a COCO-style annotation file")
        self.category_ids = np.array([int(c["id"]) for c in self.file.categories], dtype=np.int64)
        self.class_names = self.file.class_names
        self.federated = self.file.federated
        self._order = np.argsort(self.file.image_ids, kind="stable")
        self.image_ids = self.file.image_ids[self._order]

    @classmethod
    def from_dataset(cls, dataset: Any, size: int | None = None) -> "DetectionTruth":
        """Annotations of a ``DetectionDataset``: its file's where it has one, else every sample is read once.

        Args:
            dataset: Its transform is left out: detections are in pixels of the stored images.
            size: Number of images, the first of them; all when not given.
        """
        size = len(dataset) if size is None else size
        file = getattr(dataset, "file", None)
        if isinstance(file, CocoFile):
            ids = dataset.image_ids[:size]
            return cls(file if len(ids) == len(file.images) else file.only(ids))
        plain = copy.copy(dataset)
        plain.transform = None
        return cls(annotations_of((plain[i] for i in range(size)), plain.classes.names))

    def only(self, image_ids: Collection[int]) -> "DetectionTruth":
        """Annotations of some images alone, by the rules of the whole file."""
        return DetectionTruth(self.file.only(image_ids))

    @property
    def num_classes(self) -> int:
        """Number of classes, C."""
        return len(self.category_ids)

    @property
    def groups(self) -> CategoryGroups:
        """The file's own groups: LVIS's ``frequency`` letters, else by ``image_count``, else one group of all."""
        return self.groups_and_source[0]

    @property
    def groups_and_source(self) -> tuple[CategoryGroups, str]:
        """``groups`` and what tells them: empty where nothing does."""
        letters = [c.get("frequency") for c in self.file.categories]
        if all(letter in ("r", "c", "f") for letter in letters):
            names = {"rare": "r", "common": "c", "frequent": "f"}
            members = {name: [c for c, of in enumerate(letters) if of == letter] for name, letter in names.items()}
            return CategoryGroups.explicit(members), "letters of the annotation file"
        if self._has("image_count"):
            return CategoryGroups.lvis(self._counts("image_count")), "image counts of the annotation file"
        return CategoryGroups.explicit({"all": range(self.num_classes)}), ""

    @property
    def frequency(self) -> ClassFrequency | None:
        """Counts of the training split, where the categories carry them (LVIS) and nothing speaks against them."""
        if not self._has("image_count") or self.foreign_counts:
            return None
        instances = self._counts("instance_count") if self._has("instance_count") else None
        return ClassFrequency(self.class_names, self._counts("image_count"), None, instances)

    @property
    def foreign_counts(self) -> bool:
        """Whether the categories count other images than the training split: common ones without any (a sample)."""
        if not self._has("image_count"):
            return False
        common = [c.get("frequency") in ("c", "f") for c in self.file.categories]
        return bool((self._counts("image_count")[common] == 0).any())

    @property
    def counted(self) -> ClassFrequency:
        """Counts of these annotations themselves, crowd regions left out."""
        file = self.file
        objects = (file.of_image(int(place)) for place in self._order)
        return counted_labels([file.labels[o[~file.crowd[o]]] for o in objects], self.class_names, "")

    def _has(self, key: str) -> bool:
        return all(key in category for category in self.file.categories)

    def _counts(self, key: str) -> np.ndarray:
        fix = "count training images and instances in whole numbers, or leave the counts out"
        return whole_numbers(self.file.path, "categories", self.file.categories, key, fix)

    @cached_property
    def sizes(self) -> list[tuple[int, int] | None]:
        """Height and width of every image, in the order of ``image_ids``; None where the file does not say."""
        return [self.file.size(int(place)) for place in self._order]

    @cached_property
    def file_names(self) -> list[str]:
        """Name of the file of every image, in the order of ``image_ids``; empty where the annotations do not say."""
        names = [self.file.images[place].get("file_name") for place in self._order.tolist()]
        return [name if isinstance(name, str) else "" for name in names]

    @property
    def without_masks(self) -> int:
        """Number of objects that have no mask."""
        return int((~self.file.has_masks).sum())

    def check_masks(self) -> None:
        """Look at every mask.

        Raises:
            DataError: An object has no mask, or one that is neither polygons nor run lengths, is of another size, or
                does not fill its image.
        """
        if self.without_masks:
            raise DataError(
                f"annotation {self.file.ids[~self.file.has_masks][0]} of {self.file.path} has no mask "
                f"({self.without_masks} of {len(self.file.ids)} are without)",
                fix="score boxes alone (--iou_type bbox), or give annotations with masks",
            )
        for start in range(0, len(self.file.ids), 4096):
            self.file.checked_masks(np.arange(start, min(start + 4096, len(self.file.ids))))

    @cached_property
    def ids_by_name(self) -> dict[str, int]:
        """Image id by file name, with and without its folders and its suffix; of names that fit one image alone.

        Empty where the images have ids of their own.
        """
        if not self.file.ids_of_names:
            return {}
        found: dict[str, set[int]] = {}
        for image in self.file.images:
            path = PurePosixPath(str(image["file_name"]))
            for name in {str(path), str(path.with_suffix("")), path.name, path.stem}:
                found.setdefault(name, set()).add(image["id"])
        return {name: ids.pop() for name, ids in found.items() if len(ids) == 1}

    def places(self, image_ids: np.ndarray) -> np.ndarray:
        """Places of known images among ``image_ids``."""
        return np.searchsorted(self.image_ids, image_ids)

    def classes_looked_for(self, place: int) -> dict[str, list[int]]:
        """Classes of LVIS's two lists for the image at a place."""
        return self.file.classes_looked_for(int(self._order[place]))

    def objects(self, places: np.ndarray, with_masks: bool) -> Objects:
        """Annotations of the images at some places; within an image in the order of the file."""
        rows = [self.file.of_image(int(i)) for i in self._order[places]]
        images = np.repeat(places, [len(part) for part in rows])
        row = np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64)
        boxes = self.file.boxes[row]
        boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        masks = [self.file.segmentation(i) for i in row.tolist()] if with_masks else None
        return Objects(
            row,
            images,
            self.file.labels[row],
            boxes,
            self._areas(row, images, boxes),
            self.file.crowd[row],
            self.file.ignored[row],
            masks,
            *(self._keys(places, key) for key in FEDERATED),
        )

    def _keys(self, places: np.ndarray, key: str) -> np.ndarray:
        if not self.federated:
            return np.zeros(0, dtype=np.int64)
        keys = [p * self.num_classes + c for p in places.tolist() for c in self.classes_looked_for(p)[key]]
        return np.array(keys, dtype=np.int64)

    def _areas(self, rows: np.ndarray, images: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Areas as the file has them, else of the mask, else of the box."""
        from hotcoco import mask

        areas = self.file.areas[rows]
        for i in np.flatnonzero(np.isnan(areas)).tolist():
            shape, size = self.file.segmentation(int(rows[i])), self.sizes[images[i]]
            if shape is None or (isinstance(shape, list) and size is None):
                areas[i] = boxes[i, 2] * boxes[i, 3]
            else:
                self.file.checked_masks(rows[i : i + 1])
                areas[i] = float(mask.area(as_run_lengths(shape, size)))
        return areas


def annotations_of(samples: Iterable[Mapping[str, Any]], class_names: Sequence[str]) -> dict[str, Any]:
    """COCO-style content of detection samples; category ids are the class ids.

    Args:
        samples: Untransformed ``DetectionSample`` dicts.
        class_names: Names of the C classes.
    """
    from hotcoco import mask

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        height, width = sample["image"].shape[-2:]
        identity = int(sample["image_id"])
        images.append({"id": identity, "height": int(height), "width": int(width), "file_name": str(sample["name"])})
        boxes = np.asarray(sample["boxes"], dtype=np.float64).reshape(-1, 4)
        masks = np.asarray(sample["masks"], dtype=np.uint8) if "masks" in sample else None
        for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            record = {
                "id": len(annotations) + 1,
                "image_id": identity,
                "category_id": int(sample["labels"][i]),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": int(sample["crowd"][i]),
            }
            if masks is not None:
                encoded = mask.encode(np.asfortranarray(masks[i]))
                record |= {"segmentation": text_mask(encoded), "area": float(masks[i].sum())}
            annotations.append(record)
    categories = [{"id": c, "name": name} for c, name in enumerate(class_names)]
    return {"images": images, "annotations": annotations, "categories": categories}
