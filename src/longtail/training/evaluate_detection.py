"""``evaluate_detection``: every way to read a detector's stages, scored in one pass over a data set."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from longtail.annotations.coco_file import CocoFile
from longtail.datasets.base import DetectionDataset, DetectionSample
from longtail.detection.method import DetectionMethod
from longtail.detection.recording import StageRecorder
from longtail.diagnosis.failure_file import save_failures
from longtail.diagnosis.failures import object_failures
from longtail.diagnosis.photos import photos_of
from longtail.distributed import all_gather_objects, broadcast_object, is_main_process, world_size
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_diagnosis import DetectionDiagnosis
from longtail.metrics.detection_scorer import DetectionScorer, IouType, ScoringRules
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.results import Prediction, Results
from longtail.models.detector import Detector
from longtail.training.detection_config import EvaluationGroups
from longtail.training.detection_pictures import DetectionPictures
from longtail.training.environment import environment
from longtail.training.evaluation import chosen_readouts, counts_for, evaluating, limited, share_of_rank


@torch.inference_mode()
def evaluate_detection(
    detector: DetectionMethod | Detector,
    dataset: DetectionDataset,
    *,
    groups: CategoryGroups | EvaluationGroups = "auto",
    frequency: ClassFrequency | None = None,
    truth: DetectionTruth | None = None,
    readouts: Iterable[str] | None = None,
    iou_types: Sequence[IouType] | None = None,
    diagnose: bool = True,
    batch_size: int = 1,
    workers: int = 0,
    recording: str | Path | None = None,
    pictures: int = 6,
    pictures_dir: str | Path | None = None,
    training: DetectionDataset | None = None,
    limit: int | None = None,
    progress: bool = False,
    data: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    seed: int | None = None,
    **rules: Unpack[ScoringRules],
) -> Results:
    """Score a detector on annotated images; under several ranks each takes its share, and all get the result.

    Images go through the network once; every readout (the method, its other ensembles, the plain average, each stage)
    then reads the stages' outputs. Detections are scored in pixels of the stored images.

    Args:
        detector: A method on the device to compute on, or a ``Detector`` with all that it knows.
        dataset: Annotated images; where it has no transform of its own, the detector's preprocessing is used.
        groups: Groups of the classes to score by, or how to choose them: see ``evaluation_groups``. What told them is
            in ``settings["groups_from"]`` of the result.
        frequency: Counts of the training split; the detector's where not given.
        truth: The annotations of ``dataset``, where they are at hand.
        readouts: Names of the readouts wanted; all where not given.
        iou_types: ``bbox``, ``segm``; what the detector and the annotations have where not given.
        diagnose: Whether to find why the method's own detections fail, and scores image by image for intervals.
        batch_size: Images at a time.
        workers: Processes that load images.
        recording: Folder to record every stage's outputs in, for `longtail score stages`; takes a second pass through
            the network.
        pictures: How many images to draw, those with most of the rarest classes.
        pictures_dir: Where to draw them; none are drawn where not given.
        training: Training images, for examples next to the pictures of failures.
        limit: Look at the first images only.
        progress: Show a bar on a terminal.
        data: What ``Results.data`` says besides images and fingerprint.
        settings: What ``Results.settings`` says.
        seed: What ``Results.seed`` says.
        rules: Other arguments of ``DetectionScorer``. AP_fixed is of all detections above the detector's threshold,
            without its limit per image; of masks as well if the method's ``unlimited_kinds`` say so.

    Raises:
        ConfigError: An unknown readout, missing groups, masks wanted that are not there, a limit below 1, or a
            recording of several ranks.
        DataError: An image cannot be read, or the data set has other classes than the detector.
    """
    method = detector if isinstance(detector, DetectionMethod) else detector.method
    frequency = counts_for(detector, dataset, frequency)
    size = limited(dataset, limit)
    truth = truth or DetectionTruth.from_dataset(dataset, size)
    groups_from = "argument"
    if isinstance(groups, str):
        if isinstance(detector, Detector):
            groups, groups_from = evaluation_groups(groups, detector.groups, detector.frequency, truth)
        else:
            groups, groups_from = truth.groups_and_source
    names = chosen_readouts(list(method.readouts()), readouts)
    book = None
    if pictures_dir is not None and pictures:
        book = DetectionPictures(Path(pictures_dir), pictures, groups)
    wanted = iou_types or _iou_types(method, dataset, truth)
    rules["fixed"] = method.unlimited_kinds if rules.get("fixed", True) else ()
    scorers = {name: DetectionScorer(truth, groups, iou_types=wanted, **rules) for name in names}
    diagnosis = DetectionDiagnosis(truth, wanted, rules) if diagnose else None
    _detect(detector, dataset, size, scorers, diagnosis, batch_size, workers, recording, book, progress)
    if book is not None:
        book.write(dataset, names)
    predictions = {name: _prediction(scorer) for name, scorer in scorers.items()}
    images = {}
    if diagnosis is not None:
        diagnosis.merge(all_gather_objects(diagnosis.state))
        images = {names[0]: diagnosis.complete(predictions[names[0]], groups)}
        if pictures_dir is not None and pictures and is_main_process() and diagnosis.errors is not None:
            listed = isinstance(getattr(training, "file", None), CocoFile)  # others would be read image by image
            examples = (DetectionTruth.from_dataset(training), photos_of(training)) if listed else None
            drawn = object_failures(truth, diagnosis.errors, photos_of(dataset), examples)
            save_failures(drawn, pictures_dir)
    federated = rules.get("federated")
    return Results(
        task="detection",
        method=names[0],
        class_names=list(dataset.classes.names),
        groups=groups.to_dict(),
        predictions=predictions,
        images=images,
        frequency=None if frequency is None else frequency.to_dict(),
        data={**(data or {}), "notes": list(truth.file.notes), "images": size, "fingerprint": dataset.fingerprint},
        settings={
            **(settings or {}),
            "federated": truth.federated if federated is None else federated,
            "groups_from": groups_from,
        },
        seed=seed,
        environment=environment(),
    )


def evaluation_groups(
    by: EvaluationGroups, training: CategoryGroups, frequency: ClassFrequency, truth: DetectionTruth
) -> tuple[CategoryGroups, str]:
    """Groups to score by, and what tells them: training, the annotation file, or counts of the training split.

    Args:
        by: See ``DetectionEvaluationConfig.groups``.
        training: The detector's groups.
        frequency: Counts of the training split.
        truth: The annotations to score with. A file without groups is scored by LVIS's, of the training images.
    """
    if by == "file" or (by != "training" and truth.federated):
        groups, source = truth.groups_and_source
        return (groups, source) if source else (CategoryGroups.lvis(frequency.counts("images")), "training images")
    if by == "standard":
        return CategoryGroups.by_count(frequency.counts("instances")), "training instances"
    return training, "those of training"


def _prediction(scorer: DetectionScorer) -> Prediction:
    """Scores of the images of all ranks, on every rank."""
    if world_size() > 1:
        states = all_gather_objects(scorer.state)
        if is_main_process():
            scorer.merge(states)
    return broadcast_object(scorer.compute() if is_main_process() else None)  # type: ignore[return-value]


def _detect(
    detector: DetectionMethod | Detector,
    dataset: DetectionDataset,
    size: int,
    scorers: Mapping[str, DetectionScorer],
    diagnosis: DetectionDiagnosis | None,
    batch_size: int,
    workers: int,
    recording: str | Path | None,
    book: DetectionPictures | None,
    progress: bool,
) -> None:
    """Give every readout's detections of this rank's images to its scorer, and the method's own to ``diagnosis`` as well."""
    method = detector if isinstance(detector, DetectionMethod) else detector.method
    if recording is not None and world_size() > 1:
        raise ConfigError("stages are recorded by one process", fix="evaluate on one device to record them")
    device = next(method.parameters()).device
    names = list(scorers)
    unlimited = bool(method.unlimited_kinds) and any(scorer.keeps_matches for scorer in scorers.values())
    batches = share_of_rank(dataset, size, batch_size, workers, progress)
    recording_stages = StageRecorder(recording) if recording is not None else nullcontext()
    with evaluating(method), recording_stages as recorder:
        if recording is not None and isinstance(detector, Detector):
            detector.save_description(recording)
        for batch in batches:
            indices, samples = zip(*batch, strict=True)
            images, sizes = zip(*(_network_input(sample, detector, device) for sample in samples), strict=True)
            ids = [int(sample["image_id"]) for sample in samples]
            if recorder is not None:
                outputs = method.stage_outputs(images)
                recorder.add(ids, outputs, sizes)
            seen = method.predict_readouts(images, sizes, names, unlimited=unlimited)
            for place, (index, sample) in enumerate(zip(indices, samples, strict=True)):
                if book is not None:
                    labels = sample["labels"][~sample["crowd"]].numpy()
                    book.consider(index, sample["name"], labels, {name: seen[name][place] for name in names})
            for name, scorer in scorers.items():
                every = [one.unlimited for one in seen[name]] if unlimited else []
                found = DetectionArrays.collect(ids, seen[name])
                scorer.update(ids, found, DetectionArrays.collect(ids, every) if unlimited else None)
                if diagnosis is not None and name == names[0]:
                    diagnosis.update(ids, found)


def _network_input(
    sample: DetectionSample, detector: DetectionMethod | Detector, device: torch.device
) -> tuple[Tensor, tuple[int, int]]:
    """Normalised image and the size that it had before."""
    image = sample["image"]
    height, width = sample["original_size"] if "original_size" in sample else image.shape[-2:]  # type: ignore[typeddict-item]
    scaled = isinstance(detector, Detector) and detector.photos.value_range is not None
    if image.dtype == torch.uint8 or (scaled and "original_size" not in sample):
        if isinstance(detector, DetectionMethod):
            raise ConfigError(
                "the images are not normalised", fix="give the data set transforms.detection_eval(), or pass a Detector"
            )
        image = detector.preprocess(image.as_subclass(Tensor))
    return image.as_subclass(Tensor).to(device, non_blocking=True), (int(height), int(width))


def _iou_types(method: DetectionMethod, dataset: DetectionDataset, truth: DetectionTruth) -> tuple[IouType, ...]:
    with_masks = method.has_masks and not truth.without_masks and "masks" in dataset[0]
    return ("bbox", "segm") if with_masks else ("bbox",)
