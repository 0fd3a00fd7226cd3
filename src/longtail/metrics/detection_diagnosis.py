"""Why detections fail, in the form that ``results.json`` holds: errors by kind, operating points, curves by group."""

from collections.abc import Sequence
from typing import Any

from longtail.frequency.groups import CategoryGroups
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_curves import group_curves
from longtail.metrics.detection_errors import detection_errors
from longtail.metrics.detection_matching import IouType
from longtail.metrics.detection_scorer import ScoringRules
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.image_matches import ImageMatches
from longtail.metrics.image_scores import ImageScores
from longtail.metrics.operating_points import OperatingPoints
from longtail.metrics.results import Prediction

_CONFUSED = 500  # pairs of classes that are kept
_PREFIX: dict[str, str] = {"bbox": "", "segm": "mask_"}


def diagnose_detections(
    prediction: Prediction,
    truth: DetectionTruth,
    detections: DetectionArrays,
    groups: CategoryGroups,
    iou_types: Sequence[IouType],
    rules: ScoringRules,
) -> ImageScores:
    """Add to a prediction why its detections fail; returns their scores image by image.

    ``Prediction.extra`` gets ``errors`` (what each kind costs and how often it occurs, by class, and the pairs of
    classes confused), ``operating_points`` and ``curves``: all at IoU 0.5, of boxes unless masks alone are scored.

    Args:
        prediction: The scores of these detections.
        truth: The annotations.
        detections: Detections of all their images.
        groups: Groups of the classes.
        iou_types: ``bbox``, ``segm`` or both.
        rules: Those by which the detections were scored.
    """
    limits: Any = {key: rules.get(key) for key in ("federated", "max_detections")}
    kinds = sorted(iou_types)
    parts = {_PREFIX[kind]: ImageMatches.match(truth, detections, iou_type=kind, **limits) for kind in kinds}
    matches = parts[_PREFIX[kinds[0]]].matches
    errors = detection_errors(truth, detections, iou_type=kinds[0], **limits)
    prediction.extra |= {
        "errors": {
            "cost": {kind: values.tolist() for kind, values in errors.cost.items()},
            "counts": {kind: values.tolist() for kind, values in errors.counts.items()},
            "confused": errors.confused[:_CONFUSED].tolist(),
        },
        "operating_points": OperatingPoints.best_f1(matches, truth.class_names).to_dict(),
        "curves": group_curves(matches, groups),
    }
    return ImageScores(parts)
