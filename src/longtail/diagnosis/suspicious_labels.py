"""Labels of rare classes that independent, confident models agree against."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Integer

from longtail.errors import ConfigError
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_matching import Matching
from longtail.metrics.detection_truth import DetectionTruth

_OVERLAP = 0.5  # IoU from which a detection is of an object
_AGREED = 0.9  # share of a region's pixels that all models call the same other class
_LEAST = 64  # pixels of a region


@dataclass(frozen=True)
class Suspicion:
    """One label to look at again.

    Args:
        image: Id or name of its image.
        annotation: Id of the annotation; None for a region of a label image, and where an object seems to be missing.
        label: Class id of the label; None where an object seems to be missing.
        suggested: Class id that all models agree on.
        confidence: Least of the models' scores, or share of the region's pixels that they agree on.
        box: xyxy in pixels.
    """

    image: int | str
    annotation: int | None
    label: int | None
    suggested: int
    confidence: float
    box: tuple[float, ...]


def suspicious_objects(
    truth: DetectionTruth,
    predictions: Sequence[DetectionArrays],
    rare: Collection[int],
    least_score: float = 0.5,
) -> list[Suspicion]:
    """Objects of rare classes that every model calls the same other class, and rare objects that seem to be missing.

    An object is suspicious where the surest detection on it of every model, of any class, is of one other class and
    scores ``least_score`` or more. An object seems to be missing where every model finds one of a rare class with such
    a score and no object of any class is there; not in federated annotations, whose lists leave objects out on purpose.

    Args:
        truth: The annotations.
        predictions: Detections of models that were trained apart from each other, and not on these images.
        rare: Classes whose labels are looked at.
        least_score: Score from which a model is confident.

    Raises:
        ConfigError: There is one model alone.

    Source: Northcutt et al., "Confident Learning" (2021): out-of-sample predictions alone may doubt a label.
    """
    _check_models(len(predictions))
    found = [p[np.argsort(p.image_ids, kind="stable")] for p in predictions]
    matching = Matching(truth, "bbox", False, 0, keep=False)
    suspicions: list[Suspicion] = []
    for place, image in enumerate(truth.image_ids.tolist()):
        here = []
        for arrays in found:
            first, last = arrays.image_ids.searchsorted(image), arrays.image_ids.searchsorted(image, side="right")
            sure = np.arange(first, last)[arrays.scores[first:last] >= least_score]
            here.append(arrays[sure])
        if any(len(arrays) == 0 for arrays in here):
            continue
        objects = matching.objects(np.array([place]))
        overlaps = [matching.iou(objects, arrays).reshape(len(arrays), len(objects.rows)) for arrays in here]
        suspicions += _of_objects(truth, image, objects, here, overlaps, rare)
        if not truth.federated:
            suspicions += _unlabelled(image, here, overlaps, rare)
    return sorted(suspicions, key=lambda s: -s.confidence)


def suspicious_regions(
    truth: Integer[np.ndarray, "h w"],
    predictions: Sequence[Integer[np.ndarray, "h w"]],
    rare: Collection[int],
    image: str,
) -> Iterator[Suspicion]:
    """Regions of rare classes of one label image at whose pixels all models agree on one other class.

    Args:
        truth: Class ids.
        predictions: Label maps of models that were trained apart from each other, and not on this image.
        rare: Classes whose labels are looked at.
        image: Name of the image.

    Raises:
        ConfigError: There is one model alone.
    """
    _check_models(len(predictions))
    agreed: Bool[np.ndarray, "h w"] = np.all([p == predictions[0] for p in predictions[1:]], axis=0)
    for label in sorted(set(np.unique(truth).tolist()).intersection(rare)):
        inside = truth == label
        pixels = int(inside.sum())
        values, counts = np.unique(predictions[0][inside & agreed], return_counts=True)
        if pixels < _LEAST or not len(values):
            continue
        suggested, share = int(values[counts.argmax()]), float(counts.max() / pixels)
        if suggested != label and share >= _AGREED:
            rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
            yield Suspicion(image, None, label, suggested, share, box)


def suspicion_rows(
    suspicions: Sequence[Suspicion], class_names: Sequence[str], files: Mapping[int | str, str]
) -> list[dict[str, object]]:
    """The list as rows for a CSV file, the surest first.

    Args:
        suspicions: What was found.
        class_names: Names of the classes.
        files: Image -> file name.
    """
    return [
        {
            "image": s.image,
            "file": files.get(s.image, ""),
            "annotation": "" if s.annotation is None else s.annotation,
            "label": "(none)" if s.label is None else class_names[s.label],
            "suggested": class_names[s.suggested],
            "confidence": round(s.confidence, 4),
            **dict(zip(("left", "top", "right", "bottom"), (round(v, 1) for v in s.box), strict=True)),
        }
        for s in suspicions
    ]


def _check_models(number: int) -> None:
    if number < 2:
        raise ConfigError(
            "one model alone cannot doubt a label: it may be wrong itself",
            fix="give the predictions of two or more models that were trained apart, and not on these images",
        )


def _of_objects(
    truth: DetectionTruth,
    image: int,
    objects: object,
    here: Sequence[DetectionArrays],
    overlaps: Sequence[np.ndarray],
    rare: Collection[int],
) -> Iterator[Suspicion]:
    rows, labels, crowd = objects.rows, objects.labels, objects.crowd  # type: ignore[attr-defined]
    for column, (row, label) in enumerate(zip(rows.tolist(), labels.tolist(), strict=True)):
        if label not in rare or crowd[column]:
            continue
        claims = []
        for arrays, iou in zip(here, overlaps, strict=True):
            on = np.flatnonzero(iou[:, column] >= _OVERLAP)
            if not len(on):
                break
            best = on[arrays.scores[on].argmax()]
            claims.append((int(arrays.labels[best]), float(arrays.scores[best])))
        claimed = {c for c, _ in claims}
        if len(claims) == len(here) and len(claimed) == 1 and label not in claimed:
            box = tuple(truth.file.boxes[row].tolist())
            yield Suspicion(image, int(truth.file.ids[row]), label, claims[0][0], min(s for _, s in claims), box)


def _unlabelled(
    image: int, here: Sequence[DetectionArrays], overlaps: Sequence[np.ndarray], rare: Collection[int]
) -> Iterator[Suspicion]:
    from hotcoco import primitives

    first, others = here[0], here[1:]
    for place in range(len(first)):
        label = int(first.labels[place])
        if label not in rare or (overlaps[0][place] >= _OVERLAP).any():
            continue
        scores = [float(first.scores[place])]
        for arrays in others:
            same = np.flatnonzero(arrays.labels == label)
            iou = np.asarray(primitives.bbox_iou(arrays.xywh[same], first.xywh[[place]], np.zeros(1, dtype=bool)))
            on = same[iou.reshape(-1) >= _OVERLAP]
            if not len(on):
                break
            scores.append(float(arrays.scores[on].max()))
        if len(scores) == len(here):
            yield Suspicion(image, None, None, label, min(scores), tuple(first.boxes[place].tolist()))
