"""``score_detections``: score anyone's detections file by class and group, without a model."""

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Unpack

from longtail.errors import ConfigError, DataError
from longtail.frequency.counts import ClassFrequency
from longtail.frequency.groups import CategoryGroups
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_diagnosis import DetectionDiagnosis
from longtail.metrics.detection_doubts import detection_doubts
from longtail.metrics.detection_errors import DetectionErrors
from longtail.metrics.detection_scorer import IouType, ScoringRules, detection_prediction
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.read_detections import read_detections
from longtail.metrics.results import Prediction, Results
from longtail.version import __version__

Groups = CategoryGroups | Mapping[str, Sequence[int]]


def score_detections(
    annotations: str | Path | DetectionTruth,
    detections: str | Path | Mapping[str, str | Path],
    *,
    iou_types: Sequence[IouType] | None = None,
    groups: Groups | None = None,
    frequency: ClassFrequency | str | Path | None = None,
    edges: Sequence[int] | None = None,
    name: str | None = None,
    looked_at: Callable[[str, DetectionTruth, DetectionErrors], None] | None = None,
    **rules: Unpack[ScoringRules],
) -> Results:
    """Score a file of detections against annotations.

    Args:
        annotations: COCO- or LVIS-style annotation file of the evaluated split, or the annotations of a data set.
        detections: File in COCO's results format; or several, name -> file, to stand side by side in one record.
        iou_types: ``bbox``, ``segm``; None scores boxes, and masks where all the files have them.
        groups: Groups of the classes (the categories in the order of their ids). None makes LVIS's groups from
            ``frequency``, else takes the annotations' own.
        frequency: Counts of the *training* split, or the file of them that ``longtail count`` writes, matched by the
            names of the classes.
        edges: Instances in ``frequency`` that part the groups, rarest first; None for LVIS's groups.
        name: Name of the method; the file's stem by default.
        looked_at: Is given the name, the annotations and the errors of each file, for pictures of them.
        rules: Other arguments of ``DetectionScorer``.

    Returns:
        What ``Results.save`` writes as ``results.json``; its ``settings["groups_from"]`` says what told the groups.

    Raises:
        DataError: A file is not what it should be.
        ConfigError: The groups or the frequency are of other classes, or masks are wanted where there are none.
    """
    truth = annotations if isinstance(annotations, DetectionTruth) else DetectionTruth(annotations)
    if not len(truth.file.ids):
        raise DataError(
            f"{truth.file.path} has no annotations to score against", fix="give the annotations of the evaluated split"
        )
    files = dict(detections) if isinstance(detections, Mapping) else {name or Path(detections).stem: detections}
    if not files:
        raise ConfigError("there is no detections file to score", fix="name at least one")
    arrays = {key: read_detections(path, truth) for key, path in files.items()}
    frequency = _frequency(truth, frequency)
    wanted, notes = _iou_types(truth, arrays, iou_types)
    if "segm" in wanted:
        truth.check_masks()
    chosen, groups_from = _groups(truth, groups, frequency, edges)
    predictions = {
        key: detection_prediction(truth, found, chosen, iou_types=wanted, **rules) for key, found in arrays.items()
    }
    results = results_of(truth, predictions, chosen, frequency or truth.frequency, wanted, rules)
    for key, found in arrays.items():
        diagnosis = DetectionDiagnosis(truth, wanted, rules)
        diagnosis.update(truth.image_ids.tolist(), found)
        results.images[key] = diagnosis.complete(predictions[key], chosen)
        if looked_at is not None and diagnosis.errors is not None:
            looked_at(key, truth, diagnosis.errors)
    results.data |= described_annotations(truth)
    results.data["notes"] = [
        *truth.file.notes,
        *notes,
        *(_foreign_counts(truth) if frequency is None else ()),
        *(doubt for key, found in arrays.items() for doubt in detection_doubts(truth, found, key)),
    ]
    results.settings |= {
        "annotations": str(truth.file.path),
        "detections": {key: str(path) for key, path in files.items()},
        "groups_from": groups_from,
    }
    return results


def results_of(
    truth: DetectionTruth,
    predictions: dict[str, Prediction],
    groups: CategoryGroups,
    frequency: ClassFrequency | None,
    iou_types: Sequence[IouType],
    rules: ScoringRules,
) -> Results:
    """The record of several ways to detect the same objects; the first is the method's own. See ``score_detections``."""
    federated = rules.get("federated")
    return Results(
        task="detection",
        method=next(iter(predictions)),
        class_names=list(truth.class_names),
        groups=groups.to_dict(),
        predictions=predictions,
        frequency=None if frequency is None else frequency.to_dict(),
        data={"images": len(truth.image_ids)},
        settings={
            "iou_types": list(iou_types),
            "federated": truth.federated if federated is None else federated,
            "max_detections": rules.get("max_detections"),
        },
        environment={"longtail": __version__, "python": platform.python_version(), "hotcoco": version("hotcoco")},
    )


def described_annotations(truth: DetectionTruth) -> dict[str, str]:
    """Name and fingerprint of annotations, for ``Results.data``."""
    file = truth.file
    content = file.path.read_bytes() if file.content is None else file.content
    return {"name": file.path.name, "fingerprint": hashlib.sha256(content).hexdigest()[:16]}


def _iou_types(
    truth: DetectionTruth, arrays: Mapping[str, DetectionArrays], wanted: Sequence[IouType] | None
) -> tuple[tuple[IouType, ...], list[str]]:
    """What to score, and a note where masks are left out; None takes masks where all that hold anything have them."""
    if wanted is not None:
        return tuple(wanted), []
    filled = [array for array in arrays.values() if len(array)]
    if not filled or any(array.masks is None for array in filled):
        return ("bbox",), []
    if truth.without_masks:
        return ("bbox",), [
            f"boxes alone are scored: {truth.without_masks} of {len(truth.file.ids)} objects of {truth.file.path.name} have "
            "no mask to compare the detections' with"
        ]
    return ("bbox", "segm"), []


def _foreign_counts(truth: DetectionTruth) -> list[str]:
    if not truth.foreign_counts:
        return []
    return [
        f"image_count in {truth.file.path.name} is not of the training split, since frequent classes have none; nothing is "
        "said on training data without the counts of the training split (`longtail count`)"
    ]


def _frequency(truth: DetectionTruth, given: ClassFrequency | str | Path | None) -> ClassFrequency | None:
    if given is None:
        return None
    frequency = given if isinstance(given, ClassFrequency) else ClassFrequency.from_json(given)
    return frequency.in_order_of(truth.class_names, "the annotation file")


def _groups(
    truth: DetectionTruth, given: Groups | None, frequency: ClassFrequency | None, edges: Sequence[int] | None
) -> tuple[CategoryGroups, str]:
    """The groups, and their source."""
    if given is not None:
        return given if isinstance(given, CategoryGroups) else CategoryGroups.explicit(given), "argument"
    if edges is not None:
        if frequency is None:
            raise ConfigError(
                "edges without a frequency",
                fix="give the counts of the training split (`longtail count`): --frequency (frequency=)",
            )
        return CategoryGroups.by_count(frequency.counts("instances"), edges), "training instances"
    if frequency is not None:
        return CategoryGroups.lvis(frequency.counts("images")), "training images"
    return truth.groups_and_source
