"""Pictures of the worst errors of the failing classes of detections, and of their training examples."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from longtail.diagnosis.crops import FOUND, TRUE, as_jpeg, draw_boxes
from longtail.diagnosis.failure_file import Failure
from longtail.diagnosis.photos import Photo
from longtail.metrics.detection_errors import KINDS, DetectionErrors
from longtail.metrics.detection_truth import DetectionTruth

MOST_CLASSES = 50  # of which pictures are drawn: the page stays below 20 MB
_EACH = 4  # pictures of each sort
_CLASSIFICATION, _MISSED = KINDS.index("classification"), "missed"


@dataclass(frozen=True)
class Case:
    """One object or detection to show.

    Args:
        sort: See ``Failure``.
        words: See ``Failure``.
        image: Id of its image.
        found: Box of a detection, xyxy; None for none.
        true: Box of an object, xyxy; None for none.
    """

    sort: str
    words: str
    image: int
    found: tuple[float, ...] | None
    true: tuple[float, ...] | None


def worst_classes(errors: DetectionErrors, limit: int = MOST_CLASSES) -> list[int]:
    """The classes that lose most AP to any kind of error, the worst first."""
    cost = np.nan_to_num(np.stack(list(errors.cost.values()))).max(axis=0)
    order = np.argsort(-cost, kind="stable")
    return [int(c) for c in order[:limit] if cost[c] > 0]


def object_cases(truth: DetectionTruth, errors: DetectionErrors, label: int) -> Iterator[Case]:
    """The surest false positives and confusions that claim a class, and the largest of its objects that are missed."""
    found, names = errors.detections, truth.class_names
    mine = np.flatnonzero((found.labels == label) & (errors.kinds >= 0))
    mine = mine[np.argsort(-found.scores[mine], kind="stable")]
    confused = errors.kinds[mine] == _CLASSIFICATION
    for place in mine[~confused][:_EACH].tolist():
        words = f"{KINDS[errors.kinds[place]]}, score {found.scores[place]:.2f}"
        yield _of_detection("false positive", words, truth, errors, place)
    for place in mine[confused][:_EACH].tolist():
        true = names[truth.file.labels[errors.pointed[place]]]
        yield _of_detection("confusion", f"is {true}, score {found.scores[place]:.2f}", truth, errors, place)
    taken = np.flatnonzero((errors.kinds == _CLASSIFICATION) & (errors.pointed >= 0))
    taken = taken[(truth.file.labels[errors.pointed[taken]] == label)]
    for place in taken[np.argsort(-found.scores[taken], kind="stable")][:_EACH].tolist():
        words = f"called {names[found.labels[place]]}, score {found.scores[place]:.2f}"
        yield _of_detection("confusion", words, truth, errors, place)
    missed = errors.missed[truth.file.labels[errors.missed] == label]
    for row in missed[np.argsort(-_areas(truth, missed), kind="stable")][:_EACH].tolist():
        yield Case(_MISSED, "found by nobody", _image_of(truth, row), None, _box(truth, row))


def training_cases(truth: DetectionTruth, label: int) -> list[Case]:
    """Objects of a class in the training annotations, from the smallest to the largest."""
    rows = np.flatnonzero((truth.file.labels == label) & ~truth.file.crowd)
    rows = rows[np.argsort(_areas(truth, rows), kind="stable")]
    spread = np.unique(np.linspace(0, max(len(rows) - 1, 0), _EACH).round().astype(int))[: len(rows)]
    return [Case("training", "", _image_of(truth, row), None, _box(truth, row)) for row in rows[spread].tolist()]


def draw_cases(cases: Iterable[Case], photo: Photo) -> list[Failure]:
    """Pictures of the cases whose photographs can be read."""
    drawn = []
    for case in cases:
        image = photo(case.image)
        if image is None:
            continue
        boxes = [(box, colour) for box, colour in ((case.true, TRUE), (case.found, FOUND)) if box is not None]
        shown = np.array([box for box, _ in boxes])
        around = (*shown[:, :2].min(axis=0), *shown[:, 2:].max(axis=0))
        drawn.append(Failure(case.sort, case.words, as_jpeg(draw_boxes(image, around, boxes))))
    return drawn


def object_failures(
    truth: DetectionTruth,
    errors: DetectionErrors,
    photo: Photo,
    training: tuple[DetectionTruth, Photo] | None = None,
) -> dict[str, list[Failure]]:
    """Class name -> pictures of its errors, then of its training examples.

    Args:
        truth: The annotations.
        errors: Of the detections.
        photo: Reads the photographs of the annotations.
        training: Annotations of the training split, of the same classes, and what reads its photographs.
    """
    result = {}
    for label in worst_classes(errors):
        drawn = draw_cases(object_cases(truth, errors, label), photo)
        if training is not None and drawn:
            drawn += draw_cases(training_cases(training[0], label), training[1])
        if drawn:
            result[truth.class_names[label]] = drawn
    return result


def _of_detection(sort: str, words: str, truth: DetectionTruth, errors: DetectionErrors, place: int) -> Case:
    row = int(errors.pointed[place])
    box = tuple(errors.detections.boxes[place].tolist())
    return Case(sort, words, int(errors.detections.image_ids[place]), box, _box(truth, row) if row >= 0 else None)


def _box(truth: DetectionTruth, row: int) -> tuple[float, ...]:
    return tuple(truth.file.boxes[row].tolist())


def _areas(truth: DetectionTruth, rows: np.ndarray) -> np.ndarray:
    sides = truth.file.boxes[rows][:, 2:] - truth.file.boxes[rows][:, :2]
    return sides.prod(axis=1)


def _image_of(truth: DetectionTruth, row: int) -> int:
    return int(truth.file.image_ids[truth.file.image_index[row]])
