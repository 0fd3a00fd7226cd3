"""Why detections fail, in the form that ``results.json`` holds: errors by kind, operating points, curves by group."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from longtail.frequency.groups import CategoryGroups
from longtail.metrics.detection_arrays import DetectionArrays, best_of_each
from longtail.metrics.detection_curves import group_curves
from longtail.metrics.detection_errors import DetectionErrors, detection_errors
from longtail.metrics.detection_matching import IouType
from longtail.metrics.detection_scorer import ScoringRules
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.image_matches import ImageMatching
from longtail.metrics.image_scores import ImageScores
from longtail.metrics.operating_points import OperatingPoints
from longtail.metrics.results import Prediction
from longtail.metrics.shown_classes import shown_classes

_CONFUSED = 3  # claimed classes that are kept for each true class
_PREFIX: dict[str, str] = {"bbox": "", "segm": "mask_"}


class DetectionDiagnosis:
    """Finds why detections fail, which come a few images at a time.

    Args:
        truth: The annotations. Images that never come count as images where nothing was found.
        iou_types: ``bbox``, ``segm`` or both.
        rules: Those by which the detections are scored.

    Attributes:
        errors: The errors, once ``complete`` has found them.
    """

    errors: DetectionErrors | None = None

    def __init__(self, truth: DetectionTruth, iou_types: Sequence[IouType], rules: ScoringRules) -> None:
        self.truth, self.kinds = truth, sorted(iou_types)
        self._limits: Any = {key: rules.get(key) for key in ("federated", "max_detections")}
        self._matching = {_PREFIX[kind]: ImageMatching(truth, kind, **self._limits) for kind in self.kinds}
        self._found: list[DetectionArrays] = []

    def update(self, image_ids: Sequence[int], detections: DetectionArrays) -> None:
        """Take all detections of some images; masks are kept only where there are no boxes to tell the errors of."""
        for matching in self._matching.values():
            matching.add(image_ids, detections)
        self._found.append(replace(detections, masks=None) if self.kinds[0] == "bbox" else detections)

    @property
    def state(self) -> Any:
        """What ``merge`` takes."""
        return self._found, {prefix: matching.parts for prefix, matching in self._matching.items()}

    def merge(self, states: Sequence[Any]) -> None:
        """Replace what was taken by what these took, each of other images."""
        self._found = [part for found, _ in states for part in found]
        for prefix, matching in self._matching.items():
            matching.parts = [part for _, parts in states for part in parts[prefix]]

    def complete(self, prediction: Prediction, groups: CategoryGroups) -> ImageScores:
        """Add to a prediction why its detections fail; returns their scores image by image.

        ``Prediction.extra`` gets ``errors`` (what each kind costs and how often it occurs, by class, and the pairs of
        classes confused), ``operating_points``, ``curves`` and ``shown``: all at IoU 0.5, of boxes unless masks alone are
        scored.
        """
        parts = {prefix: matching.joined() for prefix, matching in self._matching.items()}
        matches = parts[_PREFIX[self.kinds[0]]].matches
        found = DetectionArrays.join(self._found)
        self.errors = errors = detection_errors(self.truth, found, iou_type=self.kinds[0], **self._limits)
        claims = errors.confused
        prediction.extra |= {
            "errors": {
                "cost": {kind: values.tolist() for kind, values in errors.cost.items()},
                "counts": {kind: values.tolist() for kind, values in errors.counts.items()},
                "lost": np.bincount(claims[:, 1], claims[:, 2], self.truth.num_classes).astype(int).tolist(),
                "confused": claims[best_of_each(claims[:, 1], claims[:, 2], _CONFUSED)].tolist(),
            },
            "operating_points": OperatingPoints.best_f1(matches, self.truth.class_names).to_dict(),
            "curves": group_curves(matches, groups),
            "shown": _shown(self.truth),
        }
        return ImageScores(parts)


def _shown(truth: DetectionTruth) -> dict[str, list[float]]:
    """Of every class the images that show it, the median side of its objects, and the classes in the same images."""
    objects = truth.objects(np.arange(len(truth.image_ids)), with_masks=False)
    there = np.zeros((len(truth.image_ids), truth.num_classes), dtype=bool)
    there[objects.images, objects.labels] = True
    side = np.zeros(truth.num_classes)
    order = np.argsort(objects.labels, kind="stable")
    ends = np.searchsorted(objects.labels[order], np.arange(truth.num_classes + 1))
    for label in np.flatnonzero(np.diff(ends)):
        side[label] = np.median(np.sqrt(objects.areas[order[ends[label] : ends[label + 1]]]))
    return shown_classes(there, side)
