"""``DetectionScorer``: COCO and LVIS metrics of detections that come a few images at a time."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from longtail.errors import ConfigError, DataError
from longtail.frequency.groups import CategoryGroups
from longtail.metrics.by_group import group_means
from longtail.metrics.detection_arrays import DetectionArrays, run_lengths
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.matches import THRESHOLDS, Matches, Overlaps, match_greedily
from longtail.metrics.results import Prediction

_Pick = Callable[[np.ndarray], Any]  # boxes or masks at some places
_Shapes = tuple[Callable[..., np.ndarray], _Pick, _Pick]  # IoU, detections, objects
IouType = Literal["bbox", "segm"]

#: Detections a class of AP-fixed, over the whole data set and without a limit an image.
#: Source: Dave et al., "Evaluating Large-Vocabulary Object Detectors: The Devil is in the Details".
FIXED_PER_CLASS = 10_000
#: Box metrics carry no prefix and mask metrics this one.
MASK_PREFIX = "mask_"
_SIZES = {"all": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}
_NO_LIMIT = 2**31 - 1
_EVERY_THRESHOLD = np.uint16(2 ** len(THRESHOLDS) - 1)
_PIECE = 256  # images matched at once
_ROOM = 2**20  # matches kept before those beyond AP-fixed's limit are dropped


class DetectionScorer:
    """Scores of one way to detect.

    Detections are matched a few hundred images at a time and forgotten; what stays is some 30 bytes for each, and 16
    more up to twice ``FIXED_PER_CLASS`` a class. Several ranks each score their images: ``merge`` joins their states.

    Args:
        truth: The annotations. Images that never come count as images where nothing was found.
        groups: Partition of the classes; None for the annotations' own.
        iou_types: ``bbox``, ``segm`` or both. Metrics of masks are named ``mask_AP`` and so on.
        federated: LVIS's rules; None for what the annotations are.
        max_detections: Limit: an image where federated (LVIS: 300), an image and class elsewhere (COCO: 100); 0 for no
            limit. None for these defaults.
        fixed: Also AP_fixed: the best 10,000 detections of each class, without a limit an image. The honest check of
            whatever re-ranks categories, since the ordinary limit rewards it.
        pooled: Also AP_pool, one precision-recall curve over all classes, and the calibration of scores by group.

    Raises:
        ConfigError: The groups are of other classes, or an IoU type is unknown.

    Source: SPEC C31; PEERS part 2 §3.
    """

    def __init__(
        self,
        truth: DetectionTruth,
        groups: CategoryGroups | None = None,
        *,
        iou_types: Sequence[IouType] = ("bbox",),
        federated: bool | None = None,
        max_detections: int | None = None,
        fixed: bool = True,
        pooled: bool = True,
    ) -> None:
        self.truth = truth
        self.groups = truth.groups if groups is None else groups
        if self.groups.num_classes != truth.num_classes:
            raise ConfigError(
                f"groups of {self.groups.num_classes} classes for {truth.num_classes} categories",
                fix="group exactly the categories of the annotation file, in the order of their ids",
            )
        self.fixed, self.pooled = fixed, pooled
        federated = truth.federated if federated is None else federated
        limit = (300 if federated else 100) if max_detections is None else max_detections
        self._sides = {kind: _Matching(truth, kind, federated, limit, fixed or pooled) for kind in iou_types}
        self._pending: list[DetectionArrays] = []
        self._pending_ids: list[int] = []
        self._seen: set[int] = set()
        self._count = 0
        self._ended = False

    def update(self, image_ids: Sequence[int], detections: DetectionArrays) -> None:
        """Take the detections of some images.

        Args:
            image_ids: The images, also those where nothing was found.
            detections: All their detections; with masks where masks are scored.

        Raises:
            ConfigError: Masks are to be scored and there are none, or the scores were given.
            DataError: An image is scored twice or unknown, a detection is of another image or an unknown class, or its
                score or box is not finite.
        """
        self._check_open()
        ids = [int(i) for i in image_ids]
        _check_detections(self.truth, ids, detections, self._sides)
        if len(set(ids)) < len(ids) or not self._seen.isdisjoint(ids):
            again = next(i for place, i in enumerate(ids) if i in self._seen or i in ids[:place])
            raise DataError(f"image {again} is scored twice", fix="give all detections of an image at once")
        self._seen.update(ids)
        self._count += len(detections)
        self._pending.append(detections)
        self._pending_ids += ids
        if len(self._pending_ids) >= _PIECE:
            self._match()

    @property
    def state(self) -> "ScorerState":
        """What ``merge`` takes: can be pickled, and grows with the detections only."""
        self._match()
        sides: dict[str, tuple[Any, Matches | None]] = {
            kind: (side.stream, side.matches) for kind, side in self._sides.items()
        }
        return ScorerState(sides, frozenset(self._seen), self._count)

    def merge(self, states: Sequence["ScorerState"]) -> None:
        """Replace what was taken so far by what these states took, each of other images."""
        for kind, side in self._sides.items():
            side.merge([state.sides[kind] for state in states])
        self._pending, self._pending_ids = [], []
        self._seen = set().union(*(state.seen for state in states))
        self._count = sum(state.detections for state in states)

    def compute(self) -> Prediction:
        """All scores, as ``results.json`` holds them. Ends the scorer: nothing can be added afterwards."""
        scores = {kind: run.eval for kind, run in self.evaluators().items()}  # without their matches
        prediction = Prediction({}, {name: {} for name in self.groups.names})
        for kind, side in self._sides.items():
            prefix = MASK_PREFIX if kind == "segm" else ""
            _add_scores(prediction, scores[kind], self.groups, prefix)
            if side.matches is None:
                continue
            best = side.matches.top_per_class(FIXED_PER_CLASS)
            if self.fixed:
                _add_metric(prediction, f"{prefix}AP_fixed", best.class_ap().mean(axis=1), self.groups)
            if self.pooled:
                prediction.overall[f"{prefix}AP_pool"] = best.pooled_ap()
                prediction.extra[f"{prefix}calibration"] = best.calibration(self.groups)
        prediction.extra["detections"] = self._count
        return prediction

    def evaluators(self) -> dict[str, Any]:
        """hotcoco's evaluator of each IoU type, for curves beyond the metrics. Ends the scorer, as ``compute`` does."""
        self._check_open()
        self._ended = True
        missing = np.setdiff1d(self.truth.image_ids, np.fromiter(self._seen, np.int64, len(self._seen)))
        self._pending_ids += missing.tolist()
        self._match()
        return {kind: side.evaluator() for kind, side in self._sides.items()}

    def _check_open(self) -> None:
        if self._ended:
            raise ConfigError("the scorer has given its scores already", fix="make a new DetectionScorer")

    def _match(self) -> None:
        """Match what is pending, a piece at a time."""
        if not self._pending_ids:
            return
        found = DetectionArrays.join(self._pending)
        found = found[np.argsort(found.image_ids, kind="stable")]
        ids = np.sort(self._pending_ids)
        self._pending, self._pending_ids = [], []
        for start in range(0, len(ids), _PIECE):
            piece = ids[start : start + _PIECE]
            first, last = np.searchsorted(found.image_ids, (piece[0], piece[-1] + 1))
            here = found[np.arange(first, last)]
            images, annotations = self.truth.of(piece.tolist())
            for side in self._sides.values():
                side.add(images, annotations, here)


class ScorerState(NamedTuple):
    """What a ``DetectionScorer`` knows; see ``DetectionScorer.state``."""

    sides: dict[str, tuple[Any, Matches | None]]
    seen: frozenset[int]
    detections: int


class _Matching:
    """Matches of one IoU type: within the usual limits by size, and without a limit where these are kept."""

    def __init__(self, truth: DetectionTruth, kind: str, federated: bool, limit: int, keep: bool) -> None:
        import hotcoco

        if kind not in ("bbox", "segm"):
            raise ConfigError(f"iou_type is {kind!r}", fix="choose 'bbox' or 'segm'")
        self._truth, self._kind, self._federated, self._limit = truth, kind, federated, limit
        params = hotcoco.Params(kind)
        params.area_rng = [list(bounds) for bounds in _SIZES.values()]
        params.area_rng_lbl = list(_SIZES)
        params.max_dets = [limit or _NO_LIMIT]
        self.stream: Any = hotcoco.StreamingEval(truth.categories, kind, federated, params)
        self._parts: list[Matches] | None = [Matches.none(truth.num_classes)] if keep else None
        self._room = _ROOM

    @property
    def matches(self) -> Matches | None:
        """Matches without a limit an image; None where they are not kept."""
        if self._parts is None:
            return None
        self._parts = [Matches.join(self._parts)]
        return self._parts[0]

    def add(self, images: list[dict[str, Any]], annotations: list[dict[str, Any]], found: DetectionArrays) -> None:
        """Match the detections of some images, of which these are all annotations."""
        limited = found.top_per_image(self._limit) if self._federated and self._limit else found
        self.stream.update(images, annotations, self._rows(limited))
        if self._parts is None:
            return
        self._parts.append(self._match(images, annotations, found))
        if sum(map(len, self._parts)) > self._room:
            kept = Matches.join(self._parts).top_per_class(FIXED_PER_CLASS)
            self._parts, self._room = [kept], max(2 * len(kept), _ROOM)

    def merge(self, states: Sequence[tuple[Any, Matches | None]]) -> None:
        import hotcoco

        self.stream = hotcoco.StreamingEval.merge([stream for stream, _ in states])
        if self._parts is not None:
            self._parts = [matches for _, matches in states if matches is not None]

    def evaluator(self) -> Any:
        run = self.stream.finalize()
        run.accumulate()
        return run

    def _match(
        self, images: list[dict[str, Any]], annotations: list[dict[str, Any]], found: DetectionArrays
    ) -> Matches:
        """All detections of some images, however many an image has."""
        key = found.image_ids * self._truth.num_classes + found.labels  # one an image and class
        owner = self._keys((a["image_id"], a["category_id"]) for a in annotations)
        crowd = np.array([not self._federated and bool(a.get("iscrowd")) for a in annotations], dtype=bool)
        skipped = np.array([bool(a.get("ignore")) for a in annotations], dtype=bool) if self._federated else crowd
        shapes = self._masks if self._kind == "segm" else self._boxes
        overlaps = _overlaps(*shapes(images, annotations, found), found.scores, key, owner, crowd)
        right, ignored = match_greedily(overlaps, len(found), skipped, crowd)
        kept = np.full(len(found), True)
        if self._federated:  # elsewhere a class that an image has no object of is wrong there
            absent = self._keys((i["id"], c) for i in images for c in i.get("neg_category_ids", ()))
            unsure = self._keys((i["id"], c) for i in images for c in i.get("not_exhaustive_category_ids", ()))
            kept = np.isin(key, np.concatenate([owner, absent]))
            ignored = np.where(np.isin(key, unsure), ~right & _EVERY_THRESHOLD, ignored)
        classes = owner[~skipped] % self._truth.num_classes
        return Matches(
            found.scores[kept],
            found.labels[kept].astype(np.int32),
            right[kept],
            ignored[kept],
            np.bincount(classes, minlength=self._truth.num_classes),
        )

    def _keys(self, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
        """One number for every image and category that the file lists."""
        image, category = np.array([*pairs], dtype=np.int64).reshape(-1, 2).T
        known = np.isin(category, self._truth.category_ids)
        return image[known] * self._truth.num_classes + np.searchsorted(self._truth.category_ids, category[known])

    def _boxes(
        self, images: list[dict[str, Any]], annotations: list[dict[str, Any]], found: DetectionArrays
    ) -> _Shapes:
        from hotcoco import primitives

        true_boxes = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
        return primitives.bbox_iou, _xywh(found).__getitem__, true_boxes.__getitem__

    def _masks(
        self, images: list[dict[str, Any]], annotations: list[dict[str, Any]], found: DetectionArrays
    ) -> _Shapes:
        from hotcoco import primitives

        sizes = {image["id"]: (image["height"], image["width"]) for image in images}
        masks, owners = found.masks or [], found.image_ids.tolist()
        return (
            primitives.mask_iou,
            lambda places: [run_lengths(masks[i], sizes[owners[i]]) for i in places],
            lambda places: [self._truth.coco.ann_to_rle(annotations[i]) for i in places],
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
            [found.image_ids[:, None], _xywh(found), found.scores[:, None], categories[:, None]], axis=1
        )


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


def _xywh(found: DetectionArrays) -> np.ndarray:
    return np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], axis=1)


def detection_prediction(
    truth: DetectionTruth,
    detections: DetectionArrays,
    groups: CategoryGroups | None = None,
    *,
    iou_types: Sequence[IouType] = ("bbox",),
    federated: bool | None = None,
    max_detections: int | None = None,
    fixed: bool = True,
    pooled: bool = True,
) -> Prediction:
    """All scores of one way to detect, as ``results.json`` holds them; for the arguments see ``DetectionScorer``.

    Scoring the detections of each stage of a cascade gives the paper's Figure 1 (a).

    Raises:
        ConfigError: As of ``DetectionScorer``.
        DataError: As of ``DetectionScorer.update``.
    """
    scorer = DetectionScorer(
        truth,
        groups,
        iou_types=iou_types,
        federated=federated,
        max_detections=max_detections,
        fixed=fixed,
        pooled=pooled,
    )
    scorer.update(truth.image_ids.tolist(), detections)
    return scorer.compute()


def _class_ap(scores: Mapping[str, Any]) -> np.ndarray:
    """AP of every class, size range and IoU threshold, (C, sizes, thresholds); NaN where there is nothing to find."""
    precision = np.asarray(scores["precision"])[..., -1]  # thresholds, recalls, classes, sizes
    return np.where(precision > -1, precision, np.nan).mean(axis=1).transpose(1, 2, 0)


def _add_scores(prediction: Prediction, scores: Mapping[str, Any], groups: CategoryGroups, prefix: str) -> None:
    ap = _class_ap(scores)
    everything, recall = ap[:, 0], np.asarray(scores["recall"])[:, :, 0, -1].T
    _add_metric(prediction, f"{prefix}AP", everything.mean(axis=1), groups)
    _add_metric(prediction, f"{prefix}AP50", everything[:, 0], groups)
    _add_metric(prediction, f"{prefix}AP75", everything[:, 5], groups)
    for size, name in enumerate(tuple(_SIZES)[1:], 1):
        prediction.overall[f"{prefix}AP{name}"] = _mean(ap[:, size].mean(axis=1))
    _add_metric(prediction, f"{prefix}AR", np.where(recall > -1, recall, np.nan).mean(axis=1), groups)


def _add_metric(prediction: Prediction, name: str, per_class: np.ndarray, groups: CategoryGroups) -> None:
    """One metric overall, by group and by class."""
    prediction.overall[name] = _mean(per_class)
    prediction.per_class[name] = [None if math.isnan(value) else float(value) for value in per_class]
    for group, value in group_means(per_class, groups).items():
        prediction.groups[group][name] = value


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _check_detections(
    truth: DetectionTruth, image_ids: Sequence[int], detections: DetectionArrays, kinds: Collection[str]
) -> None:
    if "segm" in kinds and detections.masks is None and len(detections):
        raise ConfigError("masks are to be scored, but the detections have none", fix="score 'bbox' only")
    listed = np.isin(image_ids, truth.image_ids)
    if not listed.all():
        raise DataError(
            f"image {np.asarray(image_ids)[~listed][0]} is not among the annotations'",
            fix="score detections against the annotations of the same split",
        )
    strangers = ~np.isin(detections.image_ids, image_ids)
    if strangers.any():
        raise DataError(
            f"{strangers.sum()} detections are of images that are not to be scored, such as "
            f"{detections.image_ids[strangers][0]}",
            fix="score detections against the annotations of the same split",
        )
    wrong = (detections.labels < 0) | (detections.labels >= truth.num_classes)
    if wrong.any():
        raise DataError(
            f"{wrong.sum()} detections have classes outside 0 … {truth.num_classes - 1}, such as "
            f"{detections.labels[wrong][0]}",
            fix="use the class ids of the annotation file: its categories in the order of their ids",
        )
    broken = ~(np.isfinite(detections.scores) & np.isfinite(detections.boxes).all(axis=1))
    if broken.any():
        raise DataError(
            f"{broken.sum()} detections have a score or box that is not finite, first at {np.flatnonzero(broken)[0]}",
            fix="find out why the detector gives NaN; do not score it",
        )
