"""How sure a score is: metrics of images drawn with replacement, the same draws for all that is compared."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, Int64

from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups
from longtail.metrics.detection_arrays import DetectionArrays, within_limit
from longtail.metrics.detection_matching import IouType, Matching, protocol
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.matches import THRESHOLDS, Matches

_PIECE = 256  # images matched at once
_TOGETHER = 1 << 22  # resamples x hits worked on at once
_POINTS = 100  # recall is asked for at 0, 0.01 … 1


def draws(images: int, count: int = 10_000, seed: int = 0) -> Float32[np.ndarray, "draws images"]:
    """How often each image occurs in each draw of as many images with replacement.

    Args:
        images: Number of images.
        count: Number of draws.
        seed: Of the random numbers: the same seed pairs the draws of several runs.

    Raises:
        ConfigError: There are no images or no draws.

    Source: Efron (1979), "Bootstrap methods: another look at the jackknife".
    """
    if images < 1 or count < 1:
        raise ConfigError(f"{count} draws of {images} images", fix="give at least one of each")
    random = np.random.default_rng(seed)
    return random.multinomial(images, np.full(images, 1 / images), size=count).astype(np.float32)


def drawn_iou(
    counts: Int64[np.ndarray, "images 3 classes"], drawn: Float32[np.ndarray, "draws images"]
) -> Float[np.ndarray, "draws classes"]:
    """IoU of every class in every draw; NaN where the draw has no pixel of the class.

    Args:
        counts: For each image the pixels of each class that are right, true, and predicted.
        drawn: As of ``draws``.
    """
    images, _, classes = counts.shape
    sums = drawn.astype(np.float64) @ counts.reshape(images, -1).astype(np.float64)
    right, true, predicted = sums.reshape(-1, 3, classes).transpose(1, 0, 2)
    union = true + predicted - right
    return np.divide(right, union, out=np.full_like(right, np.nan), where=union > 0)


@dataclass(frozen=True)
class ImageMatches:
    """Detections matched to objects, with the image of each.

    Args:
        matches: The matches of all images, within the protocol's limit of detections.
        images: int64 (n,), place of each detection's image, 0 … I-1.
        positives: int64 (I, C), objects to find of every class in every image.
    """

    matches: Matches
    images: Int[np.ndarray, "detections"]
    positives: Int[np.ndarray, "images classes"]

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
        federated, limit = protocol(truth, federated, max_detections)
        found = within_limit(detections, limit, federated)
        found = found[np.argsort(found.image_ids, kind="stable")]
        matching = Matching(truth, iou_type, federated, limit, keep=False)
        parts, positives = [], np.zeros((len(truth.image_ids), truth.num_classes), dtype=np.int64)
        for start in range(0, len(truth.image_ids), _PIECE):
            ids = truth.image_ids[start : start + _PIECE]
            first, last = found.image_ids.searchsorted(ids[0]), found.image_ids.searchsorted(ids[-1], side="right")
            objects = matching.objects(np.arange(start, start + len(ids)))
            parts.append(matching.match(objects, found[np.arange(first, last)]))
            asked = ~matching.skipped(objects)
            np.add.at(positives, (objects.images[asked], objects.labels[asked]), 1)
        return cls(Matches.join(parts), np.searchsorted(truth.image_ids, found.image_ids), positives)

    def drawn_ap(
        self, drawn: Float32[np.ndarray, "draws images"], thresholds: int = len(THRESHOLDS)
    ) -> Float[np.ndarray, "draws classes"]:
        """AP of every class in every draw; NaN where the draw has no object of the class.

        The precision at a hit is that of all detections up to it, each as often as its image is drawn: two matrix
        products for each class and threshold.

        Args:
            drawn: As of ``draws``.
            thresholds: Number of IoU thresholds from 0.5 in steps of 0.05: 10 for AP, 1 for AP50.
        """
        classes = self.positives.shape[1]
        ap = np.full((len(drawn), classes), np.nan)
        asked = drawn @ self.positives.astype(np.float32)
        order = np.lexsort((-self.matches.scores, self.matches.labels))
        ends = np.searchsorted(self.matches.labels[order], np.arange(classes + 1))
        for label in np.flatnonzero(self.positives.sum(axis=0)):
            here = order[ends[label] : ends[label + 1]]
            sums = np.zeros(len(drawn))
            for bit in range(thresholds):
                counted = here[(self.matches.ignored[here] >> bit & 1) == 0]
                hits = (self.matches.right[counted] >> bit & 1) > 0
                sums += _drawn_ap(self.images[counted], hits, drawn, asked[:, label])
            ap[:, label] = np.where(asked[:, label] > 0, sums / thresholds, np.nan)
        return ap


def _drawn_ap(
    images: Int[np.ndarray, "detections"],
    hits: np.ndarray,
    drawn: Float32[np.ndarray, "draws images"],
    positives: Float32[np.ndarray, "draws"],
) -> Float[np.ndarray, "draws"]:
    """101-point AP of one class in every draw, from its detections in order of score."""
    last = np.flatnonzero(hits)
    result = np.zeros(len(drawn))
    if not len(last):
        return result
    images = images[: last[-1] + 1]
    who, place = np.unique(images, return_inverse=True)
    each = np.zeros((len(who), len(last)), dtype=np.float32)  # detections of an image from one hit to the next
    np.add.at(each, (place, np.searchsorted(last, np.arange(len(images)))), 1)
    each = each.cumsum(axis=1)
    of_hit = place[last]
    step = max(1, _TOGETHER // (len(last) + len(who)))
    for start in range(0, len(drawn), step):
        weights = drawn[start : start + step][:, who]
        true, all_ = weights[:, of_hit].cumsum(axis=1), weights @ each
        precision = true / np.maximum(all_, 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = true / np.maximum(positives[start : start + step, None], 1)
        reached = np.floor(recall * _POINTS + 1e-4) + 1  # recall points met by then, 0 among them
        reached[true == 0] = 0
        points = np.diff(reached, axis=1, prepend=0)
        result[start : start + step] = (points * envelope).sum(axis=1) / (_POINTS + 1)
    return result


@dataclass(frozen=True)
class Interval:
    """A score, or a difference of two, with its bootstrap interval.

    Attributes:
        mean: Mean over the draws.
        low: Lower end of the interval.
        high: Upper end of the interval.
        above: Share of the draws above 0.
    """

    mean: float
    low: float
    high: float
    above: float

    @property
    def told_from_chance(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def group_intervals(
    values: Float[np.ndarray, "draws classes"],
    groups: CategoryGroups,
    reference: Float[np.ndarray, "others classes"] | None = None,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Percentile interval of the mean over all classes and over every group.

    Args:
        values: Scores of every class in every draw.
        groups: Partition of the classes.
        reference: Scores of another run in the same draws; then the intervals are of the difference to it.
        confidence: Share of the draws inside the interval.

    Returns:
        Group -> interval; ``all`` first. A group without objects in any draw is left out.

    Raises:
        ConfigError: The runs were drawn differently.
    """
    if reference is not None and reference.shape != values.shape:
        raise ConfigError(
            f"draws of shape {values.shape} against {reference.shape}", fix="score both on the same images and draws"
        )
    result = {}
    for name, members in _everything(groups):
        means = _means(values[:, members])
        if reference is not None:
            means = means - _means(reference[:, members])
        means = means[~np.isnan(means)]
        if len(means):
            low, high = np.quantile(means, ((1 - confidence) / 2, (1 + confidence) / 2))
            result[name] = Interval(float(means.mean()), float(low), float(high), float((means > 0).mean()))
    return result


def _everything(groups: CategoryGroups) -> Iterator[tuple[str, list[int]]]:
    yield "all", list(range(groups.num_classes))
    yield from zip(groups.names, map(list, groups.members), strict=True)


def _means(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    return np.divide(np.where(known, values, 0).sum(axis=1), count, out=np.full(len(values), np.nan), where=count > 0)
