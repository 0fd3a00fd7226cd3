"""``score_stages``: ensembles of recorded stages by class and group, without running the detector."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from longtail.detection.config import PostprocessConfig
from longtail.detection.method import Readout
from longtail.detection.recording import recorded_ids, rescore
from longtail.detection.staged import StagedDetector
from longtail.ensembles.base import Ensemble
from longtail.ensembles.build import EnsembleSpec
from longtail.errors import ConfigError, DataError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.mec.model import named_ensembles
from longtail.mec.stages import map_stages
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_diagnosis import DetectionDiagnosis
from longtail.metrics.detection_scorer import DetectionScorer, ScoringRules
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.results import Results
from longtail.metrics.score_detections import described_annotations, results_of
from longtail.models.detector import Detector
from longtail.progress import with_progress
from longtail.settings import one_of


def score_stages(
    recording: str | Path,
    annotations: str | Path | DetectionTruth,
    readouts: Mapping[str, Ensemble | Readout],
    *,
    groups: CategoryGroups | Callable[[DetectionTruth], tuple[CategoryGroups, str]] | None = None,
    class_names: Sequence[str] | None = None,
    frequency: ClassFrequency | None = None,
    postprocess: PostprocessConfig | None = None,
    progress: bool = False,
    **rules: Unpack[ScoringRules],
) -> Results:
    """Score ways to read recorded stages. Boxes only: masks need the network.

    Images that were not recorded are also left out of the annotations.

    Args:
        recording: Folder that ``StageRecorder`` (`longtail evaluate --record`) wrote.
        annotations: COCO- or LVIS-style annotation file of the recorded split, or the annotations of a data set.
        readouts: Name -> ensemble of the stages' logits, or a readout of a detector; the first is the method's own.
        groups: Groups to score by, or a function annotations → (groups, source); None for
            the annotations' own.
        class_names: Names of the classes that the stages know, to compare with the annotations'.
        frequency: Counts of the training split, for the record.
        postprocess: Thresholds; None for LVIS's.
        progress: Whether to show how far it is.
        rules: Other arguments of ``DetectionScorer``.

    Raises:
        ConfigError: There is nothing to read.
        DataError: A broken recording, or annotations of other images or classes.
    """
    if not readouts:
        raise ConfigError("there is no ensemble to score", fix="name at least one")
    ids = recorded_ids(recording)
    truth = annotations if isinstance(annotations, DetectionTruth) else DetectionTruth(annotations)
    source = truth.file.path
    strangers = np.setdiff1d(ids, truth.image_ids)
    if len(strangers):
        raise DataError(
            f"{len(strangers)} of {len(ids)} recorded images are not in {source}, such as {strangers[0]}",
            fix="give the annotations of the split that was recorded",
        )
    if len(ids) < len(truth.image_ids):
        truth = truth.only(ids)
    if class_names is not None and tuple(class_names) != truth.class_names:
        raise DataError(
            f"{source} has {truth.num_classes} classes, {truth.class_names[0]!r} first; the recorded detector knows "
            f"{len(class_names)}, {class_names[0]!r} first",
            fix="give the annotations of the split that was recorded",
        )
    if groups is None:
        chosen, groups_from = truth.groups_and_source
    else:
        chosen, groups_from = (groups, "argument") if isinstance(groups, CategoryGroups) else groups(truth)
    scorers = {name: DetectionScorer(truth, chosen, **rules) for name in readouts}
    method = next(iter(readouts))
    diagnosis = DetectionDiagnosis(truth, ("bbox",), rules)
    unlimited = any(rules.get(name, True) for name in ("fixed", "pooled"))
    stages = rescore(recording, readouts, postprocess, unlimited=unlimited)
    for image, found in with_progress(stages, len(ids), "recorded images", shown=progress):
        for name, scorer in scorers.items():
            every, own = found[name].unlimited, DetectionArrays.collect([image], [found[name]])
            scorer.update([image], own, None if every is None else DetectionArrays.collect([image], [every]))
            if name == method:
                diagnosis.update([image], own)
    predictions = {name: scorer.compute() for name, scorer in scorers.items()}
    images = diagnosis.complete(predictions[method], chosen)
    results = results_of(truth, predictions, chosen, frequency or truth.frequency, ("bbox",), rules)
    results.images = {method: images}
    results.data |= {**described_annotations(truth), "notes": list(truth.file.notes)}
    results.settings |= {"annotations": str(source), "recording": str(recording), "groups_from": groups_from}
    return results


def recorded_detector(recording: str | Path, *, trust_code: bool = False) -> tuple[Detector, StagedDetector]:
    """The untrained detector that a recording describes: its classes, groups, thresholds and readouts.

    Args:
        recording: Folder of the recording.
        trust_code: Let the description name code outside this library.

    Raises:
        CheckpointError: The recording has no description (it is of your own detector): call ``score_stages``.
        ConfigError: The detector has no stages.
    """
    detector = Detector.from_description(recording, trust_code=trust_code)
    if not isinstance(detector.method, StagedDetector):
        raise ConfigError(
            f"{recording} is not of a detector with stages", fix="call longtail.models.score_stages with your readouts"
        )
    return detector, detector.method


def stage_readouts(
    detector: Detector,
    ensembles: Mapping[str, EnsembleSpec] | None = None,
    own: Sequence[str] | None = None,
) -> dict[str, Ensemble | Readout]:
    """Ways to read the stages of a detector: its own, then others by name and options.

    Args:
        detector: Says the groups and how its loss reads logits.
        ensembles: Name -> spec, see ``build_ensemble``.
        own: Readouts of the detector to score; None for its own prediction, and where there are no ``ensembles`` for all
            and for half a logit adjustment of the average.

    Raises:
        ConfigError: An unknown readout or ensemble, or a name twice.
    """
    method = detector.method
    assert isinstance(method, StagedDetector)
    known = method.readouts()
    usual = list(known)[: 1 if ensembles else None]
    names = [one_of("readout", name, known) for name in (usual if own is None else own)]
    if not ensembles and own is None:
        ensembles = {"half_adjusted": {"name": "logit_adjustment", "tau": 0.5}}
    for name in ensembles or {}:
        if name in names:
            raise ConfigError(f"ensemble {name!r} has the name of a readout of the detector", fix="choose another")
    others: dict[str, Ensemble] = {}
    if ensembles:
        given = detector.settings["method"].get("stage_to_group")
        even = method.num_stages % detector.groups.num_groups == 0
        stages = map_stages(method.num_stages, detector.groups, given) if given or even else None
        others = named_ensembles(ensembles, detector.groups, method.logit_reading(), detector.frequency, stages)
    return {**{name: known[name] for name in names}, **others}
