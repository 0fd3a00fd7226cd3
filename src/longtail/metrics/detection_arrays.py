"""Detections of a whole data set as arrays, and COCO's results format."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from longtail.encoded_masks import find_fault
from longtail.errors import ConfigError, DataError


@dataclass(frozen=True)
class DetectionArrays:
    """Detections of a whole data set.

    Args:
        image_ids: int64 (n,), as the annotation file has them.
        boxes: float64 (n, 4), xyxy in pixels of the image.
        scores: float64 (n,).
        labels: int64 (n,), class ids 0 … C-1.
        masks: n run-length encodings ``{"size": [h, w], "counts": str}``, or lists of polygons; None for boxes only.
    """

    image_ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: list[Any] | None = None

    def __post_init__(self) -> None:
        for name, dtype, shape in (
            ("image_ids", np.int64, (-1,)),
            ("boxes", np.float64, (-1, 4)),
            ("scores", np.float64, (-1,)),
            ("labels", np.int64, (-1,)),
        ):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype).reshape(shape))
        lengths = {len(self.image_ids), len(self.boxes), len(self.scores), len(self.labels)}
        if self.masks is not None:
            lengths.add(len(self.masks))
        if len(lengths) > 1:
            raise ConfigError(
                f"detection arrays of different lengths: {sorted(lengths)}", fix="give one entry a detection in each"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def xywh(self) -> np.ndarray:
        """Boxes as COCO has them: corner, width and height; float64 (n, 4)."""
        return np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], axis=1)

    @classmethod
    def collect(cls, image_ids: Sequence[int], detections: Sequence[Any]) -> "DetectionArrays":
        """Detections of one image after the other, as ``DetectionMethod.predict`` gives them.

        Args:
            image_ids: Id of each image.
            detections: For each image an object with tensors ``boxes``, ``scores``, ``labels`` and maybe ``masks``.
        """
        if not detections:
            return cls(np.zeros(0), np.zeros((0, 4)), np.zeros(0), np.zeros(0))
        parts = {
            name: np.concatenate([np.asarray(getattr(d, name).cpu(), dtype=np.float64) for d in detections])
            for name in ("boxes", "scores", "labels")
        }
        with_masks = all(d.masks is not None for d in detections)
        return cls(
            image_ids=np.repeat(np.asarray(image_ids, dtype=np.int64), [len(d.scores) for d in detections]),
            masks=[mask for d in detections for mask in d.masks] if with_masks else None,
            **parts,
        )

    @classmethod
    def join(cls, parts: Sequence["DetectionArrays"]) -> "DetectionArrays":
        """The detections of all parts, one after the other; with masks where all that hold any have them."""
        filled = [part for part in parts if len(part)]
        if len(filled) < 2:
            return filled[0] if filled else cls.collect([], [])
        with_masks = all(part.masks is not None for part in filled)
        return cls(
            **{k: np.concatenate([getattr(p, k) for p in filled]) for k in ("image_ids", "boxes", "scores", "labels")},
            masks=[mask for part in filled for mask in part.masks or ()] if with_masks else None,
        )

    @classmethod
    def from_json(cls, path: str | Path, category_ids: np.ndarray) -> "DetectionArrays":
        """Read a file in COCO's results format.

        Args:
            path: JSON list of objects with ``image_id``, ``category_id``, ``score``, and ``bbox`` (xywh),
                ``segmentation`` or both.
            category_ids: Category id of every class, ascending.

        Raises:
            DataError: The file is not that, names a category that the annotations do not have, or a mask cannot be read.
        """
        records = _read_json(path)
        if not isinstance(records, list):
            raise DataError(f"{path} is no list of detections", fix="give a file in COCO's results format")
        try:
            images = [record["image_id"] for record in records]
            categories = np.array([record["category_id"] for record in records], dtype=np.int64)
            scores = [record["score"] for record in records]
            masks = [record["segmentation"] for record in records] if _has(records, "segmentation") else None
            if fault := find_fault(masks or [], [None] * len(masks or [])):
                raise ValueError(f"mask of detection {fault[0]}: {fault[1]}")
            boxes = (
                np.array([record["bbox"] for record in records], dtype=np.float64).reshape(-1, 4)
                if _has(records, "bbox") or masks is None
                else _boxes_of_masks(masks)
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"a detection in {path} lacks {error}" if isinstance(error, KeyError) else f"{path}: {error}",
                fix="give image_id, category_id, score and bbox (xywh) or segmentation for every detection",
            ) from error
        boxes[:, 2:] += boxes[:, :2]
        return cls(np.array(images), boxes, np.array(scores), _class_ids(categories, category_ids, path), masks)

    def to_json(self, path: str | Path, category_ids: np.ndarray) -> None:
        """Write the detections in COCO's results format."""
        Path(path).write_text(json.dumps(self.records(category_ids)))

    def records(self, category_ids: np.ndarray) -> list[dict[str, Any]]:
        """The detections in COCO's results format, as plain JSON values."""
        columns = zip(
            self.image_ids.tolist(),
            category_ids[self.labels].tolist(),
            self.xywh.tolist(),
            self.scores.tolist(),
            strict=True,
        )
        records: list[dict[str, Any]] = [
            {"image_id": i, "category_id": c, "bbox": b, "score": s} for i, c, b, s in columns
        ]
        for record, mask in zip(records, self.masks or (), strict=self.masks is not None):
            record["segmentation"] = text_mask(mask)
        return records

    def top_per_image(self, count: int) -> "DetectionArrays":
        """The ``count`` best detections of every image; of equal scores the first come first."""
        if np.unique(self.image_ids, return_counts=True)[1].max(initial=0) <= count:
            return self
        return self[best_of_each(self.image_ids, self.scores, count)]

    def __getitem__(self, index: np.ndarray) -> "DetectionArrays":
        """The detections at ``index``, an array of positions or a mask."""
        index = np.flatnonzero(index) if np.asarray(index).dtype == bool else np.asarray(index)
        masks = None if self.masks is None else [self.masks[i] for i in index]
        return DetectionArrays(self.image_ids[index], self.boxes[index], self.scores[index], self.labels[index], masks)


def within_limit(found: DetectionArrays, limit: int, federated: bool) -> DetectionArrays:
    """The detections that a protocol scores: the best of each image where federated, else of each image and class.

    Args:
        found: Detections of any number of images.
        limit: Number of detections; 0 for no limit.
        federated: LVIS's rule instead of COCO's.
    """
    if not limit or not len(found):
        return found
    if federated:
        return found.top_per_image(limit)
    image = np.unique(found.image_ids, return_inverse=True)[1]
    return found[best_of_each(image * (found.labels.max() + 1) + found.labels, found.scores, limit)]


def best_of_each(keys: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """Ascending places of the ``count`` best scores of every key; of equal scores the first come first."""
    order = np.lexsort((-scores, keys))  # lexsort is stable
    ordered = keys[order]
    place = np.arange(len(ordered)) - np.searchsorted(ordered, ordered, side="left")
    return np.sort(order[place < count])


def _class_ids(categories: np.ndarray, category_ids: np.ndarray, source: object) -> np.ndarray:
    """Category ids of a file as class ids 0 … C-1."""
    known = np.isin(categories, category_ids)
    if not known.all():
        raise DataError(
            f"{(~known).sum()} detections in {source} are of categories that the annotations do not list, such as "
            f"{categories[~known][0]}",
            fix="use the category ids of the annotation file",
        )
    return np.searchsorted(category_ids, categories)


def _has(records: list[dict[str, Any]], key: str) -> bool:
    return bool(records) and bool(records[0].get(key))


def _boxes_of_masks(masks: list[Any]) -> np.ndarray:
    from hotcoco import mask

    return np.array([mask.to_bbox(m) if isinstance(m, dict) else _box_of_polygons(m) for m in masks]).reshape(-1, 4)


def _box_of_polygons(polygons: list[list[float]]) -> np.ndarray:
    points = np.array([number for polygon in polygons for number in polygon], dtype=np.float64).reshape(-1, 2)
    corner = points.min(axis=0)
    return np.concatenate([corner, points.max(axis=0) - corner])


def text_mask(mask: Any) -> Any:
    """Run lengths as JSON can hold them."""
    if isinstance(mask, dict) and isinstance(mask["counts"], bytes):
        return {**mask, "counts": mask["counts"].decode()}
    return mask


def _read_json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read detections from {path}: {error}", fix="give a JSON file in COCO's format"
        ) from error
