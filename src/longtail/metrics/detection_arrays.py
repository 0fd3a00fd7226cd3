"""Detections of a whole data set as arrays, and COCO's results format."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from longtail.encoded_masks import text_mask
from longtail.errors import ConfigError


@dataclass(frozen=True)
class DetectionArrays:
    """Detections of a whole data set.

    Args:
        image_ids: int64 (n,), as the annotation file has them.
        boxes: float64 (n, 4), xyxy in pixels of the image.
        scores: float64 (n,).
        labels: int64 (n,), class ids 0 … C-1.
        masks: n run-length encodings ``{"size": [h, w], "counts": str}``, or lists of polygons; None for boxes only.
        sized_by_masks: Whether the masks' areas tell a detection's size, rather than the boxes': what pycocotools and
            lvis-api do with detections that came without boxes.

    Raises:
        ConfigError: The arrays differ in length, or an image id is no whole number.
    """

    image_ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: list[Any] | None = None
    sized_by_masks: bool = False

    def __post_init__(self) -> None:
        ids = np.asarray(self.image_ids)
        if ids.dtype.kind not in "iu" and not (ids == ids.astype(np.int64)).all():
            raise ConfigError("image ids of detections are no whole numbers", fix="give the ids of the annotation file")
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
                f"arrays of {sorted(lengths)} detections", fix="give one entry for each detection in each"
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
            **parts,  # type: ignore[arg-type]
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
            sized_by_masks=filled[0].sized_by_masks,
        )

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
        return DetectionArrays(
            self.image_ids[index], self.boxes[index], self.scores[index], self.labels[index], masks, self.sized_by_masks
        )


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
