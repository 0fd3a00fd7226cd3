"""``Matching``: detections of one IoU type matched to annotations a few hundred images at a time, by hotcoco's IoU."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from longtail.encoded_masks import as_run_lengths
from longtail.errors import ConfigError
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_truth import DetectionTruth, Objects
from longtail.metrics.matches import EVERY_THRESHOLD, THRESHOLDS, Matches, Overlaps, match_greedily

_Iou = Callable[[np.ndarray, np.ndarray], np.ndarray]  # places of detections and of objects -> (detections, objects)
IouType = Literal["bbox", "segm"]

#: Detections per class of AP-fixed, over the whole data set and without a limit per image. As in the reference's
#: ``limit_dets_per_cat``, detections in images where the class was not looked for take places as well.
#: Source: Dave et al., "Evaluating Large-Vocabulary Object Detectors: The Devil is in the Details".
FIXED_PER_CLASS = 10_000
#: Size ranges of the standard protocols, in square pixels.
SIZES = {"all": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}
_NO_LIMIT = 2**31 - 1
_FEW = (1, 10)
_ROOM = 2**20  # matches kept before those beyond AP-fixed's limit are dropped


def protocol(truth: DetectionTruth, federated: bool | None, max_detections: int | None) -> tuple[bool, int]:
    """Whether LVIS's rules hold, and the limit of detections; None of either is the annotations' own."""
    federated = truth.federated if federated is None else federated
    return federated, (300 if federated else 100) if max_detections is None else max_detections


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
        #: Numbers of detections of an image and class, below the protocol's own, for which recall is told as well.
        self.limits = () if federated else tuple(number for number in _FEW if not limit or number < limit)
        params.max_dets = [*self.limits, limit or _NO_LIMIT]
        categories = [{"id": c + 1, "name": name} for c, name in enumerate(truth.class_names)]
        self.stream: Any = hotcoco.StreamingEval(categories, kind, federated, params)
        self._parts: list[Matches] | None = [Matches.none(truth.num_classes)] if keep else None
        self._room = _ROOM

    @property
    def matches(self) -> Matches | None:
        """The best matches of each class, without a limit per image; None where they are not kept."""
        if self._parts is None:
            return None
        self._parts = [Matches.join(self._parts).top_per_class(FIXED_PER_CLASS)]
        return self._parts[0]

    def add(self, places: np.ndarray, found: DetectionArrays, every: DetectionArrays) -> None:
        """Match the detections of the images at some places, which are all that these images have.

        Args:
            places: The images.
            found: Detections within the detector's own limit.
            every: Those without it, for the matches that are kept.
        """
        objects = self.objects(places)
        limited = found.top_per_image(self._limit) if self._federated and self._limit else found
        images = [self._image(place) for place in places.tolist()]
        rows, masks = self._rows(limited)
        self.stream.update(images, self._annotations(objects), rows, segmentation=masks)
        if self._parts is None:
            return
        self._parts.append(self.match(objects, every))
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

    def objects(self, places: np.ndarray) -> Objects:
        """Annotations of the images at some places, with masks where these are matched."""
        return self._truth.objects(places, with_masks=self._kind == "segm")

    def _image(self, place: int) -> dict[str, Any]:
        """An image as the evaluator takes it: its place is its id, so that no id passes through floats."""
        height, width = self._truth.sizes[place] or (0, 0)
        looked_for = self._truth.classes_looked_for(place) if self._federated else {}
        lists = {key: [c + 1 for c in classes] for key, classes in looked_for.items()}
        return {"id": place + 1, "height": height, "width": width, **lists}

    def _annotations(self, objects: Objects) -> list[dict[str, Any]]:
        """Annotations as the evaluator takes them: ids, boxes, masks and sizes alone.

        By LVIS's rules there are no crowds, and what is to be ignored is of no size: lvis-api does not look for it. Of
        the two the evaluator knows crowds alone, which would be found any number of times and partly.
        """
        areas, crowd = objects.areas, objects.crowd
        if self._federated:
            areas, crowd = np.where(objects.ignored, 2 * SIZES["all"][1], areas), np.zeros_like(crowd)
        columns = (objects.rows + 1, objects.images + 1, objects.labels + 1, objects.boxes, areas, crowd.astype(int))
        names = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        records = [dict(zip(names, row, strict=True)) for row in zip(*(c.tolist() for c in columns), strict=True)]
        for record, mask in zip(records, objects.masks or (), strict=objects.masks is not None):
            record["segmentation"] = mask
        return records

    def iou(self, objects: Objects, found: DetectionArrays) -> Float[np.ndarray, "detections objects"]:
        """IoU of all detections of an image with all its objects, crowds as crowds."""
        return np.asarray(self._iou(objects, found)(np.arange(len(found)), np.arange(len(objects.rows))))

    def skipped(self, objects: Objects) -> Bool[np.ndarray, "objects"]:
        """Which objects need not be found: those to ignore where federated, else crowds."""
        return objects.ignored if self._federated else objects.crowd

    def _crowd(self, objects: Objects) -> Bool[np.ndarray, "objects"]:
        return np.zeros_like(objects.crowd) if self._federated else objects.crowd

    def match(self, objects: Objects, found: DetectionArrays) -> Matches:
        """All detections of some images, however many an image has."""
        classes = self._truth.num_classes
        key = self._truth.places(found.image_ids) * classes + found.labels  # one per image and class
        owner = objects.images * classes + objects.labels
        skipped = self.skipped(objects)
        overlaps = _overlaps(self._iou(objects, found), found.scores, key, owner)
        right, ignored = match_greedily(overlaps, len(found), skipped, self._crowd(objects))
        if self._federated:  # elsewhere a class that an image has no object of is wrong there
            ignored = np.where(np.isin(key, objects.unsure), ~right & EVERY_THRESHOLD, ignored)
            ignored[~np.isin(key, np.concatenate([owner, objects.absent]))] = EVERY_THRESHOLD
        positives = np.bincount(objects.labels[~skipped], minlength=classes)
        return Matches(found.scores, found.labels.astype(np.int32), right, ignored, positives)

    def _iou(self, objects: Objects, found: DetectionArrays) -> _Iou:
        """IoU of some detections with some objects, by their places."""
        from hotcoco import primitives

        crowd = self._crowd(objects)
        if self._kind == "bbox":
            boxes, true_boxes = found.xywh, objects.boxes
            return lambda d, o: primitives.bbox_iou(boxes[d], true_boxes[o], crowd[o])

        def run_lengths(masks: Any, images: np.ndarray, places: np.ndarray) -> list[dict[str, Any]]:
            return [as_run_lengths(masks[i], self._truth.sizes[images[i]]) for i in places]

        images = self._truth.places(found.image_ids)
        return lambda d, o: primitives.mask_iou(
            run_lengths(found.masks, images, d), run_lengths(objects.masks, objects.images, o), crowd[o]
        )

    def _rows(self, found: DetectionArrays) -> tuple[Any, list[Any] | None]:
        """Detections as the evaluator takes them; masks without boxes where the masks' areas tell the sizes.

        Source: ``loadRes`` of pycocotools, ``LVISResults`` of lvis-api: the boxes' areas tell the sizes, of masks as
        well, where the detections came with boxes.
        """
        images, classes = self._truth.places(found.image_ids) + 1, found.labels + 1
        if found.sized_by_masks and len(found):
            assert found.masks is not None
            columns = zip(images.tolist(), classes.tolist(), found.scores.tolist(), found.masks, strict=True)
            return [{"image_id": i, "category_id": c, "score": s, "segmentation": m} for i, c, s, m in columns], None
        rows = np.concatenate([images[:, None], found.xywh, found.scores[:, None], classes[:, None]], axis=1)
        return rows, found.masks if self._kind == "segm" and len(found) else None


def _overlaps(iou: _Iou, scores: np.ndarray, key: np.ndarray, true_key: np.ndarray) -> Overlaps:
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
        overlap = iou(d, o)
        rank, column = np.nonzero(overlap >= THRESHOLDS[0])
        parts.append((d[rank], o[column], rank, overlap[rank, column]))
    none = np.zeros(0, dtype=np.int64)
    columns = zip((none, none, none, np.zeros(0)), *parts, strict=True)
    return Overlaps(*(np.concatenate(column) for column in columns))
