"""``Matching``: detections of one IoU type matched to annotations a few hundred images at a time, by hotcoco's IoU."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from longtail.errors import ConfigError
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.matches import EVERY_THRESHOLD, THRESHOLDS, Matches, Overlaps, match_greedily

_Pick = Callable[[np.ndarray], Any]  # boxes or masks at some places
_Shapes = tuple[Callable[..., np.ndarray], _Pick, _Pick]  # IoU, detections, objects
IouType = Literal["bbox", "segm"]

#: Detections a class of AP-fixed, over the whole data set and without a limit an image. As in the reference's
#: ``limit_dets_per_cat``, detections in images where the class was not looked for take places as well.
#: Source: Dave et al., "Evaluating Large-Vocabulary Object Detectors: The Devil is in the Details".
FIXED_PER_CLASS = 10_000
#: Size ranges of the standard protocols, in square pixels.
SIZES = {"all": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}
_NO_LIMIT = 2**31 - 1
_ROOM = 2**20  # matches kept before those beyond AP-fixed's limit are dropped


class Matching:
    """Matches of one IoU type: within the usual limits by size, and without a limit where these are kept."""

    def __init__(self, truth: DetectionTruth, kind: str, federated: bool, limit: int, keep: bool) -> None:
        import hotcoco

        if kind not in ("bbox", "segm"):
            raise ConfigError(f"iou_type is {kind!r}", fix="choose 'bbox' or 'segm'")
        self._truth, self._kind, self._federated, self._limit = truth, kind, federated, limit
        params = hotcoco.Params(kind)
        params.area_rng = [list(bounds) for bounds in SIZES.values()]
        params.area_rng_lbl = list(SIZES)
        params.max_dets = [limit or _NO_LIMIT]
        self.stream: Any = hotcoco.StreamingEval(truth.categories, kind, federated, params)
        self._parts: list[Matches] | None = [Matches.none(truth.num_classes)] if keep else None
        self._room = _ROOM

    @property
    def matches(self) -> Matches | None:
        """The best matches of each class, without a limit an image; None where they are not kept."""
        if self._parts is None:
            return None
        self._parts = [Matches.join(self._parts).top_per_class(FIXED_PER_CLASS)]
        return self._parts[0]

    def add(self, images: list[dict[str, Any]], annotations: list[dict[str, Any]], found: DetectionArrays) -> None:
        """Match the detections of some images, of which these are all annotations."""
        limited = found.top_per_image(self._limit) if self._federated and self._limit else found
        objects = [_by_lvis_rules(a) for a in annotations] if self._federated else annotations
        self.stream.update(images, objects, self._rows(limited))
        if self._parts is None:
            return
        self._parts.append(self.match(images, annotations, found))
        if sum(map(len, self._parts)) > self._room:
            self._room = max(2 * len(self.matches or ()), _ROOM)

    def merge(self, states: Sequence[tuple[Any, Matches | None]]) -> None:
        """Replace what was taken so far by what these ``(stream, matches)`` hold."""
        import hotcoco

        self.stream = hotcoco.StreamingEval.merge([stream for stream, _ in states])
        if self._parts is not None:
            self._parts = [matches for _, matches in states if matches is not None]

    def evaluator(self) -> Any:
        """hotcoco's evaluator of all that was taken; nothing can be added afterwards."""
        run = self.stream.finalize()
        run.accumulate()
        return run

    def iou(self, annotations: list[dict[str, Any]], found: DetectionArrays) -> Float[np.ndarray, "detections objects"]:
        """IoU of all detections of an image with all its objects, crowds as crowds."""
        iou, shapes, true_shapes = self._shapes(annotations, found)
        crowd = self._crowd(annotations)
        return np.asarray(iou(shapes(np.arange(len(found))), true_shapes(np.arange(len(annotations))), crowd))

    def skipped(self, annotations: list[dict[str, Any]]) -> Bool[np.ndarray, "objects"]:
        """Which objects need not be found: those to ignore where federated, else crowds."""
        if not self._federated:
            return self._crowd(annotations)
        return np.array([bool(a.get("ignore")) for a in annotations], dtype=bool)

    def _crowd(self, annotations: list[dict[str, Any]]) -> Bool[np.ndarray, "objects"]:
        return np.array([not self._federated and bool(a.get("iscrowd")) for a in annotations], dtype=bool)

    def match(self, images: list[dict[str, Any]], annotations: list[dict[str, Any]], found: DetectionArrays) -> Matches:
        """All detections of some images, however many an image has."""
        key = found.image_ids * self._truth.num_classes + found.labels  # one per image and class
        owner = self._keys((a["image_id"], a["category_id"]) for a in annotations)
        crowd, skipped = self._crowd(annotations), self.skipped(annotations)
        overlaps = _overlaps(*self._shapes(annotations, found), found.scores, key, owner, crowd)
        right, ignored = match_greedily(overlaps, len(found), skipped, crowd)
        if self._federated:  # elsewhere a class that an image has no object of is wrong there
            absent = self._keys((i["id"], c) for i in images for c in i.get("neg_category_ids", ()))
            unsure = self._keys((i["id"], c) for i in images for c in i.get("not_exhaustive_category_ids", ()))
            ignored = np.where(np.isin(key, unsure), ~right & EVERY_THRESHOLD, ignored)
            ignored[~np.isin(key, np.concatenate([owner, absent]))] = EVERY_THRESHOLD
        classes = owner[~skipped] % self._truth.num_classes
        return Matches(
            found.scores,
            found.labels.astype(np.int32),
            right,
            ignored,
            np.bincount(classes, minlength=self._truth.num_classes),
        )

    def _keys(self, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
        """One number for every image and category that the file lists."""
        image, category = np.array([*pairs], dtype=np.int64).reshape(-1, 2).T
        known = np.isin(category, self._truth.category_ids)
        return image[known] * self._truth.num_classes + np.searchsorted(self._truth.category_ids, category[known])

    def _shapes(self, annotations: list[dict[str, Any]], found: DetectionArrays) -> _Shapes:
        return (self._masks if self._kind == "segm" else self._boxes)(annotations, found)

    def _boxes(self, annotations: list[dict[str, Any]], found: DetectionArrays) -> _Shapes:
        from hotcoco import primitives

        true_boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
        return primitives.bbox_iou, found.xywh.__getitem__, true_boxes.__getitem__

    def _masks(self, annotations: list[dict[str, Any]], found: DetectionArrays) -> _Shapes:
        from hotcoco import primitives

        masks, owners, run_lengths = found.masks or [], found.image_ids.tolist(), self._truth.coco.ann_to_rle
        return (
            primitives.mask_iou,
            lambda places: [run_lengths({"image_id": owners[i], "segmentation": masks[i]}) for i in places],
            lambda places: [run_lengths(annotations[i]) for i in places],
        )

    def _rows(self, found: DetectionArrays) -> Any:
        """Detections as the evaluator takes them; masks without boxes, for sizes go by the masks' own area."""
        categories = self._truth.category_ids[found.labels]
        if self._kind == "segm" and len(found):
            assert found.masks is not None
            columns = zip(
                found.image_ids.tolist(), categories.tolist(), found.scores.tolist(), found.masks, strict=True
            )
            return [{"image_id": i, "category_id": c, "score": s, "segmentation": m} for i, c, s, m in columns]
        return np.concatenate(
            [found.image_ids[:, None], found.xywh, found.scores[:, None], categories[:, None]], axis=1
        )


def _by_lvis_rules(annotation: dict[str, Any]) -> dict[str, Any]:
    """An annotation that hotcoco treats as lvis-api does, which knows ``ignore`` and no crowds.

    Of the two hotcoco knows crowds alone, which would be found any number of times and partly; what is of no size need
    not be found either.
    """
    if annotation.get("ignore"):
        return {**annotation, "iscrowd": 0, "area": 2 * SIZES["all"][1]}
    return {**annotation, "iscrowd": 0} if annotation.get("iscrowd") else annotation


def _overlaps(
    iou: Callable[..., np.ndarray],
    shapes: _Pick,
    true_shapes: _Pick,
    scores: np.ndarray,
    key: np.ndarray,
    true_key: np.ndarray,
    crowd: np.ndarray,
) -> Overlaps:
    """Pairs of a detection and an object of the same key whose IoU meets the lowest threshold."""
    keys = np.unique(true_key)
    detections = np.flatnonzero(np.isin(key, keys))
    detections = detections[np.lexsort((-scores[detections], key[detections]))]
    objects = np.argsort(true_key, kind="stable")
    edges = [
        np.searchsorted(values, keys, side=side)
        for values in (key[detections], true_key[objects])
        for side in ("left", "right")
    ]
    parts = []
    for d0, d1, o0, o1 in np.stack(edges, axis=1):
        if d0 == d1:
            continue
        d, o = detections[d0:d1], objects[o0:o1]
        overlap = iou(shapes(d), true_shapes(o), crowd[o])
        rank, column = np.nonzero(overlap >= THRESHOLDS[0])
        parts.append((d[rank], o[column], rank, overlap[rank, column]))
    none = np.zeros(0, dtype=np.int64)
    d, o, ranks, ious = zip((none, none, none, np.zeros(0)), *parts, strict=True)
    return Overlaps(np.concatenate(d), np.concatenate(o), np.concatenate(ranks), np.concatenate(ious))
