"""Detections matched to objects, with the image of each: AP in draws of the images. This module does not import torch."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int64

from longtail.metrics.detection_arrays import DetectionArrays, within_limit
from longtail.metrics.detection_matching import IouType, Matching, protocol
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.matches import THRESHOLDS, Matches, each_class

_PIECE = 256  # images matched at once
_POINTS = 100  # recall is asked for at 0, 0.01 … 1
_ROUNDING = 1e-4  # below the least difference of two recalls, in points


@dataclass(frozen=True)
class ImageMatches:
    """Detections matched to objects, with the image of each.

    Args:
        matches: The matches of all images, within the protocol's limit of detections.
        images: int64 (n,), place of each detection's image, 0 … I-1.
        positives: int16 (I, C), objects to find of every class in every image.
        image_ids: int64 (I,), ids of the images, ascending.
    """

    matches: Matches
    images: Int[np.ndarray, "detections"]
    positives: Int[np.ndarray, "images classes"]
    image_ids: Int64[np.ndarray, "images"]

    @classmethod
    def match(
        cls,
        truth: DetectionTruth,
        detections: DetectionArrays,
        *,
        iou_type: IouType = "bbox",
        federated: bool | None = None,
        max_detections: int | None = None,
    ) -> "ImageMatches":
        """Match the detections of all images of the annotations; arguments as of ``DetectionScorer``."""
        parts = ImageMatching(truth, iou_type, federated, max_detections)
        found = detections[np.argsort(detections.image_ids, kind="stable")]
        for start in range(0, len(truth.image_ids), _PIECE):
            ids = truth.image_ids[start : start + _PIECE]
            first, last = found.image_ids.searchsorted(ids[0]), found.image_ids.searchsorted(ids[-1], side="right")
            parts.add(ids.tolist(), found[np.arange(first, last)])
        return parts.joined()

    def drawn(self, weights: Float32[np.ndarray, "images draws"]) -> Mapping[str, Float[np.ndarray, "classes draws"]]:
        """AP and AP50 of every class in some draws; NaN where a draw has no object of the class.

        The precision at a hit is that of all detections up to it, each as often as its image is drawn.

        Args:
            weights: How often each image occurs in each draw, see ``Draws``.
        """
        import torch

        asked = (self._asked @ torch.from_numpy(weights)).numpy()
        shape = (len(asked), weights.shape[1])
        scores = {"AP": np.zeros(shape), "AP50": np.zeros(shape)}
        for hits in self._hits:
            all_ = _summed((hits.between @ torch.from_numpy(weights)).numpy())
            for places, thresholds in hits.of_thresholds:
                ap = _drawn_ap(weights[hits.images[places]], all_[places], asked[hits.label])
                scores["AP"][hits.label] += ap * len(thresholds) / len(THRESHOLDS)
                if 0 in thresholds:
                    scores["AP50"][hits.label] += ap
        return {metric: np.where(asked > 0, values, np.nan) for metric, values in scores.items()}

    @cached_property
    def _asked(self) -> Any:
        """Sparse (C, I): objects to find of every class in every image."""
        label, image = np.nonzero(self.positives.T)
        rows = np.searchsorted(label, np.arange(self.positives.shape[1] + 1))
        return _sparse(rows, image, self.positives[image, label], self.positives.shape[::-1])

    @cached_property
    def _hits(self) -> list["_Hits"]:
        """Hits of every class that has any: once for all thresholds at which the same detections are ignored."""
        found = []
        bits = np.arange(len(THRESHOLDS))
        for label, here in each_class(self.matches.labels, self.matches.scores, self.positives.sum(axis=0)):
            right = (self.matches.right[here, None] >> bits & 1) > 0
            counted = (self.matches.ignored[here, None] >> bits & 1) == 0
            for same in _equal_columns(counted):
                kept = counted[:, same[0]]
                hits = _Hits.of(label, self.images[here[kept]], right[kept][:, same], same, len(self.positives))
                found += [] if hits is None else [hits]
        return found


class ImageMatching:
    """Matches detections that come a few images at a time; arguments as of ``ImageMatches.match``."""

    def __init__(
        self, truth: DetectionTruth, iou_type: str, federated: bool | None = None, max_detections: int | None = None
    ) -> None:
        self.truth = truth
        self._federated, self._limit = protocol(truth, federated, max_detections)
        self._matching = Matching(truth, iou_type, self._federated, self._limit, keep=False)
        self.parts: list[tuple[Matches, np.ndarray]] = []

    def add(self, image_ids: Sequence[int], detections: DetectionArrays) -> None:
        """Match all detections of some images."""
        found = within_limit(detections, self._limit, self._federated)
        objects = self._matching.objects(np.sort(self.truth.places(np.asarray(image_ids))))
        self.parts.append((self._matching.match(objects, found), self.truth.places(found.image_ids)))

    def joined(self) -> ImageMatches:
        """All matches, and the objects of all images: also of those that never came."""
        positives = np.zeros((len(self.truth.image_ids), self.truth.num_classes), dtype=np.int16)
        objects = self.truth.objects(np.arange(len(positives)), with_masks=False)
        asked = ~self._matching.skipped(objects)
        np.add.at(positives, (objects.images[asked], objects.labels[asked]), 1)
        images = np.concatenate([np.zeros(0, dtype=np.int64), *(images for _, images in self.parts)])
        matches = Matches.join([Matches.none(self.truth.num_classes), *(matches for matches, _ in self.parts)])
        matches = replace(matches, positives=positives.sum(axis=0))
        order = np.argsort(images, kind="stable")
        return ImageMatches(matches.at(order), images[order], positives, self.truth.image_ids)


class _Hits(NamedTuple):
    """Detections of a class that are right at one of some thresholds at least.

    Attributes:
        label: The class.
        images: int64 (h,), image of each of these h detections, best score first.
        between: Sparse (h, I): detections of each image, right or wrong, after one hit up to the next and with it.
        of_thresholds: Places of the detections that are right, and the thresholds at which these are.
    """

    label: int
    images: Int[np.ndarray, "hits"]
    between: Any
    of_thresholds: list[tuple[np.ndarray, list[int]]]

    @classmethod
    def of(
        cls,
        label: int,
        images: Int[np.ndarray, "detections"],
        right: Bool[np.ndarray, "detections thresholds"],
        thresholds: list[int],
        number: int,
    ) -> "_Hits | None":
        """From all detections of a class in order of score, in ``number`` images; None where none is right."""
        hits = np.flatnonzero(right.any(axis=1))
        if not len(hits):
            return None
        gap = np.searchsorted(hits, np.arange(hits[-1] + 1))
        cells, counts = np.unique(gap * number + images[: len(gap)], return_counts=True)
        rows = np.searchsorted(cells, np.arange(len(hits) + 1) * number)
        between = _sparse(rows, cells % number, counts, (len(hits), number))
        of_thresholds = [
            (np.flatnonzero(right[hits, same[0]]), [thresholds[column] for column in same])
            for same in _equal_columns(right)
        ]
        return cls(label, images[hits], between, [part for part in of_thresholds if len(part[0])])


def _sparse(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, ...]) -> Any:
    """A matrix of float32 from the columns and values of its rows, one row after the other."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")  # a beta, whose products the tests compare
        starts, places = (torch.from_numpy(part.astype(np.int64)) for part in (rows, columns))
        return torch.sparse_csr_tensor(starts, places, torch.from_numpy(values.astype(np.float32)), shape)


def _equal_columns(values: Bool[np.ndarray, "rows columns"]) -> list[list[int]]:
    """Places of equal columns together."""
    same: dict[bytes, list[int]] = {}
    for column in range(values.shape[1]):
        same.setdefault(values[:, column].tobytes(), []).append(column)
    return list(same.values())


def _drawn_ap(
    right: Float32[np.ndarray, "hits draws"],
    all_: Float32[np.ndarray, "hits draws"],
    positives: Float32[np.ndarray, "draws"],
) -> Float[np.ndarray, "draws"]:
    """101-point AP of one class in every draw: ``Σ points reached at a hit · (envelope there - at the next)``."""
    true = _summed(right)
    precision = true / np.maximum(all_, 1)
    reached = true * (_POINTS / np.maximum(positives, 1))
    reached += _ROUNDING
    np.floor(reached, out=reached)
    reached += 1
    reached *= true > 0
    for hit in range(len(precision) - 1, 0, -1):
        np.maximum(precision[hit - 1], precision[hit], out=precision[hit - 1])
    precision[:-1] -= precision[1:]
    return np.einsum("hd,hd->d", reached, precision, dtype=np.float64) / (_POINTS + 1)


def _summed(rows: np.ndarray) -> np.ndarray:
    """Cumulative sum of the rows, in place."""
    for row in range(1, len(rows)):
        rows[row] += rows[row - 1]
    return rows
