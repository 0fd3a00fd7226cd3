"""Errors of detections by kind, and the AP that each kind costs, for every class and group."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups
from longtail.metrics.detection_arrays import DetectionArrays, within_limit
from longtail.metrics.detection_matching import IouType, Matching, protocol
from longtail.metrics.detection_truth import DetectionTruth, Objects
from longtail.metrics.group_means import group_means
from longtail.metrics.matches import average_precision, each_class

#: Kinds of errors, in the order in which a wrong detection is tried; ``missed`` are objects.
KINDS = ("localisation", "classification", "duplicate", "background", "both", "missed")
_LOCALISATION, _CLASSIFICATION, _DUPLICATE, _BACKGROUND, _BOTH = range(5)
#: In place of a kind: a right detection, and one that counts nowhere.
RIGHT, _IGNORED = -1, -2


@dataclass(frozen=True)
class DetectionErrors:
    """Errors of one set of detections.

    Args:
        ap: float64 (C,), AP at the positive threshold; NaN for a class without objects.
        cost: Kind -> float64 (C,): AP that the class would gain if the errors of this kind were mended, and no other.
        counts: Kind -> int64 (C,): wrong detections by the class that they claim, missed objects by their own.
        confused: int64 (k, 3), rows ``(claimed class, true class, count)`` of classification errors, most frequent
            first.
        detections: The detections that count, in the order of ``kinds``.
        kinds: int64 (n,), place of each one's kind in ``KINDS``; -1 for a right one, -2 for one that counts nowhere.
        pointed: int64 (n,), row in the annotation file of the object that an error of localisation or classification
            points at; -1 for none.
        missed: int64 (m,), rows in the annotation file of the missed objects.
    """

    ap: Float[np.ndarray, "classes"]
    cost: dict[str, Float[np.ndarray, "classes"]]
    counts: dict[str, Int[np.ndarray, "classes"]]
    confused: Int[np.ndarray, "pairs 3"]
    detections: DetectionArrays
    kinds: Int[np.ndarray, "detections"]
    pointed: Int[np.ndarray, "detections"]
    missed: Int[np.ndarray, "objects"]

    def overall(self) -> dict[str, float]:
        """Mean AP that each kind costs, over the classes with objects."""
        return {kind: float(np.nanmean(values)) for kind, values in self.cost.items()}

    def by_group(self, groups: CategoryGroups) -> dict[str, dict[str, float]]:
        """Group -> kind -> mean AP that it costs, over the group's classes with objects."""
        means = {kind: group_means(values, groups) for kind, values in self.cost.items()}
        return {name: {kind: means[kind][name] for kind in KINDS} for name in groups.names}


def detection_errors(
    truth: DetectionTruth,
    detections: DetectionArrays,
    *,
    iou_type: IouType = "bbox",
    federated: bool | None = None,
    max_detections: int | None = None,
    positive: float = 0.5,
    background: float = 0.1,
) -> DetectionErrors:
    """Why detections are wrong, as TIDE defines it.

    A detection is right if it takes an object of its class with an IoU of ``positive`` or more, best score first. A
    wrong one is the first of these that fits, with IoU b = ``background`` and p = ``positive``:

    - localisation: its best IoU with an object of its class is in [b, p];
    - classification: an object of another class has an IoU of p or more;
    - duplicate: an object of its class, already taken, has an IoU of p or more;
    - background: no object has an IoU above b;
    - both: none of these.

    An object that nobody took is missed unless a localisation or classification error points at it. Mending makes the
    best-scored such error of a free object right and removes the others; it removes duplicates, background and both;
    it no longer asks for missed objects.

    Args:
        truth: The annotations.
        detections: Detections of all its images.
        iou_type: ``bbox`` or ``segm``.
        federated: LVIS's rules: detections of classes that nobody looked for count nowhere. None: the file's.
        max_detections: Limit, as of ``DetectionScorer``.
        positive: IoU from which a detection is right.
        background: IoU up to which a detection touches nothing.

    Raises:
        ConfigError: The thresholds are not 0 <= background < positive <= 1.

    A class all of whose objects are missed costs its whole AP as ``missed``; tidecv says 0 there.

    Source: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", §2.2 and §2.3.
    """
    if not 0 <= background < positive <= 1:
        raise ConfigError(
            f"thresholds {background} and {positive}", fix="choose 0 <= background < positive <= 1, such as 0.1 and 0.5"
        )
    federated, limit = protocol(truth, federated, max_detections)
    kept = within_limit(detections, limit, federated)
    kind = np.full(len(kept), _IGNORED, dtype=np.int64)
    mended, pointed = np.full((2, len(kept)), -1, dtype=np.int64)
    positives, missed = np.zeros((2, truth.num_classes), dtype=np.int64)
    lost, confused = [np.zeros(0, dtype=np.int64)], [np.zeros((0, 2), dtype=np.int64)]
    for image in _images(truth, kept, Matching(truth, iou_type, federated, limit, keep=False), federated, positive):
        found = _classify(image, positive, background)
        kind[image.places], mended[image.places] = found.kind, found.mended
        pointed[image.places] = np.append(image.rows, -1)[found.pointed]
        lost.append(image.rows[found.missed])
        positives += np.bincount(image.true_labels, minlength=truth.num_classes)
        missed += np.bincount(image.true_labels[found.missed], minlength=truth.num_classes)
        confused.append(found.confused)
    base = _class_ap(kept.scores, kept.labels, kind, positives)
    cost, counts = {}, {}
    for number, name in enumerate(KINDS[:-1]):
        wrong = kind == number
        labels, kinds = (
            np.where(wrong, mended, kept.labels),
            np.where(wrong, np.where(mended < 0, _IGNORED, RIGHT), kind),
        )
        cost[name] = _class_ap(kept.scores, labels, kinds, positives) - base
        counts[name] = np.bincount(kept.labels[wrong], minlength=truth.num_classes)
    without = _class_ap(kept.scores, kept.labels, kind, positives - missed)
    cost["missed"] = np.where((positives > 0) & (positives == missed), 1.0, without) - base
    counts["missed"] = missed
    pairs, number_of = np.unique(np.concatenate(confused), axis=0, return_counts=True)
    pairs = np.concatenate([pairs, number_of[:, None]], axis=1)[np.argsort(-number_of, kind="stable")]
    return DetectionErrors(base, cost, counts, pairs, kept, kind, pointed, np.concatenate(lost))


class _Image(NamedTuple):
    """Detections of one image, best score first, and its objects that count."""

    places: Int[np.ndarray, "detections"]
    labels: Int[np.ndarray, "detections"]
    true_labels: Int[np.ndarray, "objects"]
    iou: Float[np.ndarray, "detections objects"]
    unscored: Bool[np.ndarray, "detections"]  # counts nowhere unless right
    rows: Int[np.ndarray, "objects"]  # of the annotation file


class _Found(NamedTuple):
    kind: Int[np.ndarray, "detections"]
    mended: Int[np.ndarray, "detections"]  # class in which the mended detection is right; -1: it is removed
    missed: Bool[np.ndarray, "objects"]
    confused: Int[np.ndarray, "errors 2"]
    pointed: Int[np.ndarray, "detections"]  # place of the object that an error points at; -1: none


def _classify(image: _Image, positive: float, background: float) -> _Found:
    same = image.labels[:, None] == image.true_labels
    own = np.where(same, image.iou, 0.0)
    taken_by = _take(own, positive)
    right = np.zeros(len(image.labels), dtype=bool)
    right[taken_by[taken_by >= 0]] = True
    used = taken_by >= 0
    kind = np.where(image.unscored, _IGNORED, _BOTH)
    pointed = np.full(len(kind), -1)
    if len(used):
        best, other = own.max(axis=1), np.where(same, 0.0, image.iou)
        rules = (
            (_LOCALISATION, (best >= background) & (best <= positive)),
            (_CLASSIFICATION, other.max(axis=1) >= positive),
            (_DUPLICATE, (own * used).max(axis=1) >= positive),
            (_BACKGROUND, image.iou.max(axis=1) <= background),
        )
        open_ = (kind == _BOTH) & ~right
        kind = np.where(open_, np.select([r for _, r in rules], [k for k, _ in rules], _BOTH), kind)
        pointed = np.where(
            kind == _LOCALISATION, own.argmax(axis=1), np.where(kind == _CLASSIFICATION, other.argmax(axis=1), -1)
        )
    else:
        kind[kind == _BOTH] = _BACKGROUND
    kind[right] = RIGHT
    pointed[right] = -1
    confused = np.flatnonzero(kind == _CLASSIFICATION)
    pairs = np.stack([image.labels[confused], image.true_labels[pointed[confused]]], axis=1).astype(np.int64)
    mended = np.full(len(kind), -1)
    free = np.flatnonzero((pointed >= 0) & ~np.append(used, True)[pointed])
    objects, first = np.unique(pointed[free], return_index=True)  # detections come best score first
    mended[free[first]] = image.true_labels[objects]
    missed = ~used
    missed[objects] = False
    return _Found(kind, mended, missed, pairs, pointed)


def _take(own: Float[np.ndarray, "detections objects"], positive: float) -> Int[np.ndarray, "objects"]:
    """Which detection takes each object, -1 for none: each, best score first, takes the free one that it overlaps most."""
    taken_by = np.full(own.shape[1], -1)
    for detection in np.flatnonzero((own >= positive).any(axis=1)):
        overlaps = np.where(taken_by < 0, own[detection], 0.0)
        best = int(overlaps.argmax())
        if overlaps[best] >= positive:
            taken_by[best] = detection
    return taken_by


def _images(
    truth: DetectionTruth, found: DetectionArrays, matching: Matching, federated: bool, positive: float
) -> Iterator[_Image]:
    """Images of the annotations that hold a detection or an object."""
    order = np.lexsort((-found.scores, found.image_ids))
    ordered = found[order]
    starts = np.searchsorted(ordered.image_ids, truth.image_ids, side="left")
    ends = np.searchsorted(ordered.image_ids, truth.image_ids, side="right")
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        here = ordered[np.arange(start, end)]
        objects = matching.objects(np.array([place]))
        yield _image(truth, matching, federated, positive, objects, here, order[start:end])


def _image(
    truth: DetectionTruth,
    matching: Matching,
    federated: bool,
    positive: float,
    objects: Objects,
    here: DetectionArrays,
    places: np.ndarray,
) -> _Image:
    labels, skipped = objects.labels, matching.skipped(objects)
    iou, unscored = np.zeros((len(here), len(labels))), np.zeros(len(here), dtype=bool)
    if len(here) and len(labels):
        iou = matching.iou(objects, here)
        unscored = ((iou >= positive) & skipped & (here.labels[:, None] == labels)).any(axis=1)
    if federated:
        known = np.concatenate([labels, objects.absent % truth.num_classes])
        unscored |= ~np.isin(here.labels, known) | np.isin(here.labels, objects.unsure % truth.num_classes)
    return _Image(places, here.labels, labels[~skipped], iou[:, ~skipped], unscored, objects.rows[~skipped])


def _class_ap(scores: np.ndarray, labels: np.ndarray, kind: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """AP of every class at one threshold; NaN for a class with nothing to find."""
    values = np.full(len(positives), np.nan)
    for label, here in each_class(labels, scores, positives, kind != _IGNORED):
        values[label] = average_precision(kind[here] == RIGHT, int(positives[label]))
    return values
