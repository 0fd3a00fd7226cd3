"""``DetectionScorer``: COCO and LVIS metrics of detections that come a few images at a time."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np

from longtail.errors import ConfigError, DataError
from longtail.frequency.groups import CategoryGroups
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_matching import SIZES, IouType, Matching, protocol
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.group_means import group_means, mean
from longtail.metrics.matches import Matches
from longtail.metrics.results import Prediction

#: Box metrics carry no prefix and mask metrics this one.
MASK_PREFIX = "mask_"
_PIECE = 256  # images matched at once
_WAITING = 2**18  # detections beyond the limit per image that may wait to be matched


class ScoringRules(TypedDict, total=False):
    """Other arguments of ``DetectionScorer``, which explains them."""

    federated: bool | None
    max_detections: int | None
    fixed: bool | Collection[str]
    pooled: bool


class DetectionScorer:
    """Scores of one way to detect.

    Detections are matched a few hundred images at a time and forgotten; what stays is some 30 bytes for each, and 16
    more up to twice AP-fixed's limit per class. Several ranks each score their images: ``merge`` joins their states.

    Args:
        truth: The annotations. Images that never come count as images where nothing was found.
        groups: Partition of the classes; None for the annotations' own.
        iou_types: ``bbox``, ``segm`` or both. Metrics of masks are named ``mask_AP`` and so on.
        federated: LVIS's rules; None for what the annotations are.
        max_detections: Limit per image where federated (LVIS: 300), per image and class elsewhere (COCO: 100); 0 for no
            limit. None for these defaults.
        fixed: Also AP_fixed: the best 10,000 detections of each class, without a limit per image. The honest check of
            whatever re-ranks categories, since the ordinary limit rewards it. May name the IoU types to give it for.
        pooled: Also AP_pool, one precision-recall curve over all classes, and the calibration of scores by group.

    Raises:
        ConfigError: The groups are of other classes, an IoU type is unknown, or the limit is negative.

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
        fixed: bool | Collection[str] = True,
        pooled: bool = True,
    ) -> None:
        self.truth = truth
        self.groups = truth.groups if groups is None else groups
        if self.groups.num_classes != truth.num_classes:
            raise ConfigError(
                f"groups of {self.groups.num_classes} classes for {truth.num_classes} categories",
                fix="group exactly the categories of the annotation file, in the order of their ids",
            )
        if max_detections is not None and max_detections < 0:
            raise ConfigError(f"max_detections is {max_detections}", fix="give a number >= 0, 0 for no limit")
        self.pooled = pooled
        self.fixed: Collection[str] = (tuple(iou_types) if fixed else ()) if isinstance(fixed, bool) else fixed
        federated, limit = protocol(truth, federated, max_detections)
        self._sides = {
            kind: Matching(truth, kind, federated, limit, kind in self.fixed or pooled) for kind in iou_types
        }
        self._pending: list[DetectionArrays] = []
        self._pending_every: list[DetectionArrays] = []
        self._pending_ids: list[int] = []
        self._to_come = set(truth.image_ids.tolist())
        self._count = 0
        self._ended = False

    def update(
        self, image_ids: Sequence[int], detections: DetectionArrays, unlimited: DetectionArrays | None = None
    ) -> None:
        """Take the detections of some images.

        Args:
            image_ids: The images, also those where nothing was found.
            detections: All their detections; with masks where masks are scored.
            unlimited: All detections where ``detections`` are the best of each image: AP_fixed, AP_pool and the
                calibration are read from these. Without masks, those of masks are read from ``detections``.

        Raises:
            ConfigError: Masks are to be scored and there are none, or the scores were given.
            DataError: An image is scored twice or unknown, a detection is of another image or an unknown class, its
                score or box is not finite, or its mask is of another size than the image.
        """
        self._check_open()
        ids = [int(i) for i in image_ids]
        self._check_images(ids)
        _check_detections(self.truth, ids, detections, self._sides)
        self._to_come.difference_update(ids)
        self._count += len(detections)
        self._pending.append(detections)
        if unlimited is not None:
            _check_detections(self.truth, ids, unlimited, ())
            self._pending_every.append(unlimited)
        self._pending_ids += ids
        if len(self._pending_ids) >= _PIECE or sum(map(len, self._pending_every)) > _WAITING:
            self._match()

    @property
    def keeps_matches(self) -> bool:
        """Whether anything is scored that is read from all detections."""
        return bool(self.fixed) or self.pooled

    @property
    def state(self) -> "ScorerState":
        """What ``merge`` takes: can be pickled, and grows with the detections only."""
        self._match()
        sides: dict[str, tuple[Any, Matches | None]] = {
            kind: (side.stream, side.matches) for kind, side in self._sides.items()
        }
        return ScorerState(sides, frozenset(self._to_come), self._count)

    def merge(self, states: Sequence["ScorerState"]) -> None:
        """Replace what was taken so far by what these states took, each of other images."""
        for kind, side in self._sides.items():
            side.merge([state.sides[kind] for state in states])
        self._pending, self._pending_ids = [], []
        self._to_come.intersection_update(*(state.to_come for state in states))
        self._count = sum(state.detections for state in states)

    def compute(self) -> Prediction:
        """All scores, as ``results.json`` holds them. Ends the scorer: nothing can be added afterwards."""
        scores = {kind: run.eval for kind, run in self.evaluators().items()}  # without their matches
        prediction = Prediction({}, {name: {} for name in self.groups.names})
        for kind, side in self._sides.items():
            prefix = MASK_PREFIX if kind == "segm" else ""
            _add_scores(prediction, scores[kind], self.groups, prefix, side.limits)
            if side.matches is None:
                continue
            best = side.matches.counted()
            if kind in self.fixed:
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
        self._pending_ids += self._to_come
        self._match()
        return {kind: side.evaluator() for kind, side in self._sides.items()}

    def _check_open(self) -> None:
        if self._ended:
            raise ConfigError("the scorer has given its scores already", fix="make a new DetectionScorer")

    def _check_images(self, ids: Sequence[int]) -> None:
        if len(set(ids)) == len(ids) and self._to_come.issuperset(ids):
            return
        for place, image in enumerate(ids):
            if not np.isin(image, self.truth.image_ids):
                raise DataError(
                    f"image {image} is not among the annotations'",
                    fix="score detections against the annotations of the same split",
                )
            if image not in self._to_come or image in ids[:place]:
                raise DataError(f"image {image} is scored twice", fix="give all detections of an image at once")

    def _match(self) -> None:
        """Match what is pending, a piece at a time."""
        if not self._pending_ids:
            return
        found = _by_image(self._pending)
        every = _by_image(self._pending_every) if self._pending_every else None
        ids = np.sort(self._pending_ids)
        self._pending, self._pending_every, self._pending_ids = [], [], []
        for start in range(0, len(ids), _PIECE):
            piece = ids[start : start + _PIECE]
            here = _of_images(found, piece)
            for kind, side in self._sides.items():
                separate = every if every is not None and (kind == "bbox" or every.masks is not None) else None
                side.add(self.truth.places(piece), here, here if separate is None else _of_images(separate, piece))


def _by_image(parts: Sequence[DetectionArrays]) -> DetectionArrays:
    """The detections of all parts by ascending image id."""
    joined = DetectionArrays.join(parts)
    return joined[np.argsort(joined.image_ids, kind="stable")]


def _of_images(found: DetectionArrays, ids: np.ndarray) -> DetectionArrays:
    """Detections of the images from the first to the last of these ids; both are in ascending order."""
    first, last = found.image_ids.searchsorted(ids[0]), found.image_ids.searchsorted(ids[-1], side="right")
    return found[np.arange(first, last)]


class ScorerState(NamedTuple):
    """What a ``DetectionScorer`` knows; see ``DetectionScorer.state``."""

    sides: dict[str, tuple[Any, Matches | None]]
    to_come: frozenset[int]
    detections: int


def detection_prediction(
    truth: DetectionTruth,
    detections: DetectionArrays,
    groups: CategoryGroups | None = None,
    *,
    iou_types: Sequence[IouType] = ("bbox",),
    **rules: Unpack[ScoringRules],
) -> Prediction:
    """All scores of one way to detect, as ``results.json`` holds them; for the arguments see ``DetectionScorer``.

    Scoring the detections of each stage of a cascade gives the paper's Figure 1 (a).

    Raises:
        ConfigError: As of ``DetectionScorer``.
        DataError: As of ``DetectionScorer.update``.
    """
    scorer = DetectionScorer(truth, groups, iou_types=iou_types, **rules)
    scorer.update(truth.image_ids.tolist(), detections)
    return scorer.compute()


def _class_ap(scores: Mapping[str, Any]) -> np.ndarray:
    """AP of every class, size range and IoU threshold, (C, sizes, thresholds); NaN where there is nothing to find."""
    precision = np.asarray(scores["precision"])[..., -1]  # thresholds, recalls, classes, sizes
    return np.where(precision > -1, precision, np.nan).mean(axis=1).transpose(1, 2, 0)


def _class_recall(scores: Mapping[str, Any], size: int, limit: int) -> np.ndarray:
    """Recall of every class, mean over the IoU thresholds; NaN where there is nothing to find."""
    recall = np.asarray(scores["recall"])[:, :, size, limit].T  # classes, thresholds
    return np.where(recall > -1, recall, np.nan).mean(axis=1)


def _add_scores(
    prediction: Prediction, scores: Mapping[str, Any], groups: CategoryGroups, prefix: str, limits: Sequence[int]
) -> None:
    ap = _class_ap(scores)
    everything = ap[:, 0]
    _add_metric(prediction, f"{prefix}AP", everything.mean(axis=1), groups)
    _add_metric(prediction, f"{prefix}AP50", everything[:, 0], groups)
    _add_metric(prediction, f"{prefix}AP75", everything[:, 5], groups)
    for size, name in enumerate(tuple(SIZES)[1:], 1):
        _add_metric(prediction, f"{prefix}AP{name}", ap[:, size].mean(axis=1), groups)
    _add_metric(prediction, f"{prefix}AR", _class_recall(scores, 0, -1), groups)
    for place, limit in enumerate(limits):
        _add_metric(prediction, f"{prefix}AR@{limit}", _class_recall(scores, 0, place), groups)
    for size, name in enumerate(tuple(SIZES)[1:], 1):
        _add_metric(prediction, f"{prefix}AR{name}", _class_recall(scores, size, -1), groups)


def _add_metric(prediction: Prediction, name: str, per_class: np.ndarray, groups: CategoryGroups) -> None:
    """One metric overall, by group and by class."""
    prediction.overall[name] = mean(per_class)
    prediction.per_class[name] = [None if math.isnan(value) else float(value) for value in per_class]
    for group, value in group_means(per_class, groups).items():
        prediction.groups[group][name] = value


def _check_detections(
    truth: DetectionTruth, image_ids: Sequence[int], detections: DetectionArrays, kinds: Collection[str]
) -> None:
    if "segm" in kinds and detections.masks is None and len(detections):
        raise ConfigError("masks are to be scored, but the detections have none", fix="score 'bbox' only")
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
    if "segm" in kinds:
        places = truth.places(detections.image_ids).tolist()
        for image, place, mask in zip(detections.image_ids.tolist(), places, detections.masks or (), strict=True):
            size = truth.sizes[place]
            if isinstance(mask, dict) and size is not None and tuple(mask["size"]) != size:
                raise DataError(
                    f"a detection of image {image} has a mask of size {list(mask['size'])}, its image is {list(size)}",
                    fix="give masks of the stored images' height and width",
                )
