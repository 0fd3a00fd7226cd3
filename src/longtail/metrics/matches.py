"""Which detections of a data set are right, in 16 bytes each, and the scores that are read from that."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, UInt16

from longtail.frequency.groups import CategoryGroups
from longtail.metrics.detection_arrays import best_of_each

#: IoU thresholds of COCO: 0.5, 0.55 … 0.95.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_BITS = (1 << np.arange(len(THRESHOLDS))).astype(np.uint16)
EVERY_THRESHOLD = np.uint16(_BITS.sum())


@dataclass(frozen=True)
class Matches:
    """Detections matched to the objects of their class and image.

    Args:
        scores: float64 (n,).
        labels: int32 (n,), class ids 0 … C-1.
        right: uint16 (n,); bit t: the detection is right at IoU threshold t.
        ignored: uint16 (n,); bit t: it is ignored at IoU threshold t.
        positives: int64 (C,), objects to find of every class.
    """

    scores: Float[np.ndarray, "detections"]
    labels: Int32[np.ndarray, "detections"]
    right: UInt16[np.ndarray, "detections"]
    ignored: UInt16[np.ndarray, "detections"]
    positives: Int[np.ndarray, "classes"]

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls, classes: int) -> "Matches":
        """No detection and no object of so many classes."""
        empty = np.zeros(0, dtype=np.uint16)
        return cls(np.zeros(0), empty.astype(np.int32), empty, empty, np.zeros(classes, dtype=np.int64))

    @classmethod
    def join(cls, parts: Sequence["Matches"]) -> "Matches":
        """The detections of all parts, one after the other."""
        columns = {n: np.concatenate([getattr(p, n) for p in parts]) for n in ("scores", "labels", "right", "ignored")}
        return cls(**columns, positives=np.sum([p.positives for p in parts], axis=0))

    def top_per_class(self, count: int) -> "Matches":
        """The ``count`` best detections of every class; of equal scores the first come first."""
        if len(self) == 0 or np.bincount(self.labels).max() <= count:
            return self
        return self.at(best_of_each(self.labels, self.scores, count))

    def counted(self) -> "Matches":
        """Without the detections that are ignored at every threshold: no score changes."""
        return self.at(np.flatnonzero(self.ignored != EVERY_THRESHOLD))

    def at(self, kept: np.ndarray) -> "Matches":
        """The detections at some places, and all objects."""
        return Matches(self.scores[kept], self.labels[kept], self.right[kept], self.ignored[kept], self.positives)

    def class_ap(self) -> Float[np.ndarray, "classes thresholds"]:
        """AP of every class at every IoU threshold; NaN for a class with nothing to find."""
        values = np.full((len(self.positives), len(THRESHOLDS)), np.nan)
        for label, here in each_class(self.labels, self.scores, self.positives):
            values[label] = _average_precisions(self.right[here], self.ignored[here], int(self.positives[label]))
        return values

    def pooled_ap(self) -> float:
        """AP-pool: matches are found within each class, then one precision-recall curve is drawn over all classes.

        Scores must be comparable between classes to do well here, which the mean of single-class APs never asks.

        Returns:
            Mean over the IoU thresholds of the 101-point interpolated AP; NaN where there is nothing to find.

        Source: Dave et al., "Evaluating Large-Vocabulary Object Detectors: The Devil is in the Details", §5.
        """
        positives = int(self.positives.sum())
        if not positives:
            return math.nan
        order = np.lexsort((self.labels, -self.scores))
        right, ignored = self.right[order], self.ignored[order]
        return float(np.mean([average_precision((right & b)[(ignored & b) == 0] > 0, positives) for b in _BITS]))

    def calibration(self, groups: CategoryGroups, bins: int = 10) -> dict[str, dict[str, list[float | None]]]:
        """How often detections of a score are right at the first IoU threshold, for each group of classes.

        Args:
            groups: Groups of the classes.
            bins: Number of equal score intervals in [0, 1].

        Returns:
            Group -> ``score`` (mean in each bin), ``precision`` and ``count``; None in empty bins.
        """
        kept = (self.ignored & 1) == 0
        scores = self.scores[kept]
        cell = groups.group_of[self.labels[kept]] * bins + np.clip(np.clip(scores, 0, 1) * bins, 0, bins - 1).astype(
            np.int64
        )
        count, score, right = (
            np.bincount(cell, weights, len(groups.names) * bins).reshape(-1, bins)
            for weights in (np.ones_like(scores), scores, (self.right[kept] & 1).astype(np.float64))
        )
        return {
            name: {
                "score": _ratios(score[g], count[g]),
                "precision": _ratios(right[g], count[g]),
                "count": count[g].tolist(),
            }
            for g, name in enumerate(groups.names)
        }


def each_class(
    labels: Int[np.ndarray, "detections"],
    scores: Float[np.ndarray, "detections"],
    positives: Int[np.ndarray, "classes"],
    counted: Bool[np.ndarray, "detections"] | None = None,
) -> Iterator[tuple[int, Int[np.ndarray, "found"]]]:
    """Every class that has objects, and the places of its detections, best score first; of equal scores the first.

    Args:
        labels: Class id of every detection.
        scores: Score of every detection.
        positives: Number of objects of every class.
        counted: Detections to take; all where not given.
    """
    kept = np.arange(len(labels)) if counted is None else np.flatnonzero(counted)
    kept = kept[np.lexsort((-scores[kept], labels[kept]))]  # lexsort is stable
    ends = np.searchsorted(labels[kept], np.arange(len(positives) + 1))
    for label in np.flatnonzero(positives).tolist():
        yield label, kept[ends[label] : ends[label + 1]]


class Overlaps(NamedTuple):
    """Pairs of a detection and an object of the same image and class.

    Args:
        detections: int64 (k,), place of the detection.
        objects: int64 (k,), place of the object.
        ranks: int64 (k,), place of the detection among those of its image and class, best score first.
        ious: float64 (k,).
    """

    detections: Int[np.ndarray, "pairs"]
    objects: Int[np.ndarray, "pairs"]
    ranks: Int[np.ndarray, "pairs"]
    ious: Float[np.ndarray, "pairs"]


def match_greedily(
    overlaps: Overlaps,
    detections: int,
    skipped: Bool[np.ndarray, "objects"],
    crowd: Bool[np.ndarray, "objects"],
) -> tuple[UInt16[np.ndarray, "detections"], UInt16[np.ndarray, "detections"]]:
    """COCO's matching: each detection, best score first, takes the object that it overlaps most.

    Objects that were taken are gone, but for crowds; one that counts is taken before any that is skipped, and of
    equal overlaps the last. All images and classes go through their ranks together.

    Args:
        overlaps: All pairs that may match: an IoU below the first threshold changes nothing.
        detections: Number n of detections.
        skipped: (m,), objects that need not be found; what takes one is ignored.
        crowd: (m,), objects that any number of detections may take.

    Returns:
        Two uint16 (n,), bit t for IoU threshold t: took an object that counts; took one that is skipped.

    Source: pycocotools' ``COCOeval.evaluateImg``.
    """
    # At every threshold a detection prefers its objects in the same order and takes the last free one.
    order = np.lexsort(
        (overlaps.objects, overlaps.ious, ~skipped[overlaps.objects], overlaps.detections, overlaps.ranks)
    )
    found, objects, ranks, ious = (column[order] for column in overlaps)
    meets = ious[:, None] >= THRESHOLDS
    taken = np.zeros((len(skipped), len(THRESHOLDS)), dtype=bool)
    right, ignored = np.zeros((2, detections), dtype=np.uint16)
    ends = np.flatnonzero(np.diff(ranks, append=-1)) + 1
    for start, end in zip((0, *ends[:-1]), ends, strict=True) if len(ranks) else ():
        here = slice(start, end)
        free = meets[here] & ~(taken[objects[here]] & ~crowd[objects[here], None])
        first = np.flatnonzero(np.diff(found[here], prepend=-1))
        last = np.maximum.reduceat(np.where(free, np.arange(start, end)[:, None], -1), first, axis=0)
        row, threshold = np.nonzero(last >= 0)
        takes = objects[last[row, threshold]]
        taken[takes, threshold] = True
        for bits, which in ((right, ~skipped[takes]), (ignored, skipped[takes])):
            np.bitwise_or.at(bits, found[here][first[row[which]]], _BITS[threshold[which]])
    return right, ignored


def average_precision(hits: Bool[np.ndarray, "detections"], positives: int) -> float:
    """101-point interpolated AP of detections in order of score.

    Args:
        hits: Whether each detection is right, best score first.
        positives: Number of objects to find, at least 1.
    """
    true = np.cumsum(hits)
    precision = true / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(true / positives, _RECALLS, side="left")
    return float(np.append(envelope, 0.0)[np.minimum(place, len(hits))].mean())


def _average_precisions(right: np.ndarray, ignored: np.ndarray, positives: int) -> np.ndarray:
    """``average_precision`` at every threshold together; an ignored detection repeats the precision before it."""
    counts = (ignored & _BITS[:, None]) == 0
    true = np.cumsum(counts & ((right & _BITS[:, None]) > 0), axis=1)
    precision = true / np.maximum(np.cumsum(counts, axis=1), 1)
    envelope = np.zeros((len(_BITS), len(right) + 1))
    np.maximum.accumulate(precision[:, ::-1], axis=1, out=envelope[:, -2::-1])
    places = [np.searchsorted(recall, _RECALLS, side="left") for recall in true / positives]
    return np.take_along_axis(envelope, np.stack(places), axis=1).mean(axis=1)


def _ratios(sums: np.ndarray, counts: np.ndarray) -> list[float | None]:
    return [s / n if n else None for s, n in zip(sums.tolist(), counts.tolist(), strict=True)]
