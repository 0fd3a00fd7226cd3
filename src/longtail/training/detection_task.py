"""Detection as the engine sees it: data, detector and method of a ``DetectionConfig``."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from longtail.datasets import open_dataset
from longtail.datasets.base import DetectionDataset
from longtail.datasets.fingerprint import fingerprint_of
from longtail.datasets.open import data_options
from longtail.datasets.shared_images import refuse_shared_images
from longtail.errors import ConfigError, DataError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.frequency.count_instances import count_instances
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.results import Results
from longtail.models.detector import Detector, augmented
from longtail.models.pretrained import photos_of
from longtail.samplers.base import split
from longtail.samplers.class_aware import ClassAware
from longtail.samplers.repeat_factor import RepeatFactor
from longtail.samplers.two_level import TwoLevel
from longtail.training.checkpoints import writing
from longtail.training.console import percent, table
from longtail.training.detection_config import DetectionConfig, DetectionGroupsConfig
from longtail.training.evaluate_detection import evaluate_detection
from longtail.training.loading import IndexOrder, Shuffled
from longtail.training.run_folder import RunFolder
from longtail.training.scoring import check_same_classes, run_to_score
from longtail.training.task import Validation, optional_validation
from longtail.transforms import detection_eval, detection_train, normalisation

#: What training needs of a sample.
_KEPT = ("boxes", "labels", "masks", "crowd", "semantic")


class DetectionTask:
    """A detection method with its data; meets ``Task``.

    Args:
        config: Settings of the run.

    Raises:
        ConfigError: A setting that cannot work.
        DataError: Data that are not what they should be.
    """

    def __init__(self, config: DetectionConfig) -> None:
        self.config = config
        settings = config.augmentation
        transform = detection_train(settings.short_sides, settings.max_side, settings.flip, **_normalisation(config))
        labelled = open_detection(config, config.data.train_split, training=True)
        self.frequency = frequency_of(config, labelled)
        self.groups = detection_groups(config.data.groups, self.frequency)
        phases = ("train", "classifier") if config.method.classifier_phase else ("train",)
        self._orders = {phase: sampling_order(config, labelled, phase) for phase in phases}
        size = _size(labelled, config.data.limit)
        if not any(map(len, labelled.image_labels[:size])):
            raise DataError(
                f"the {size} images of {config.data.train_split} have no objects", fix="give annotations to train on"
            )
        first = labelled[0]
        self.has_masks = "masks" in first
        if config.model.options.get("semantic_classes") is not None and "semantic" not in first:
            raise ConfigError(
                "model.options.semantic_classes is given, but the training data have no semantic maps",
                fix="set data.train_options.semantic to a folder of maps or to 'objects', or leave the branch out",
            )
        augmented = copy.copy(labelled)
        augmented.transform = transform
        self.train_data = _ImagesAndTargets(augmented, size)
        self.data_fingerprint = fingerprint_of((), labelled.fingerprint, self.frequency.to_dict())
        self.val_data: DetectionDataset | None = None
        if config.data.val_split:
            with optional_validation():
                self.val_data = open_validation(config, config.data.val_split)
        self.truth: Any = None
        if self.val_data is not None:
            check_same_classes(
                config.data.train_split,
                labelled.classes.names,
                config.data.val_split,
                self.val_data.classes.names,
                fix="give both annotation files the same categories",
            )
            _check_apart(config, labelled, self.val_data)
            if hasattr(self.val_data, "file"):  # what the evaluator cannot read is refused before training
                self.truth = DetectionTruth.from_dataset(self.val_data, _size(self.val_data, config.data.limit))
        self.detector = self._build_detector(labelled)
        self.method = self.detector.method

    def _build_detector(self, dataset: DetectionDataset) -> Detector:
        config, model = self.config, self.config.model
        options = dict(model.options)
        if not self.has_masks:
            options.setdefault("masks", "none")
        weights = {} if model.weights is None else {"weights": model.weights}
        ids = getattr(dataset, "category_ids", range(dataset.classes.num_classes))
        return Detector(
            model={
                "name": model.name,
                "dialect": model.dialect,
                "backbone": model.backbone,
                "backbone_options": {**model.backbone_options, **weights},
                "classifier": model.classifier,
                **({} if model.ious is None else {"ious": list(model.ious)}),
                **options,
            },
            method=config.method.settings(),
            classes={
                "names": list(dataset.classes.names),
                "palette": [list(map(int, colour)) for colour in dataset.classes.palette],
                "ids": [int(identity) for identity in ids],
            },
            groups={"names": list(self.groups.names), "members": [list(m) for m in self.groups.members]},
            frequency=self.frequency.to_dict(),
            input={
                **_normalisation(config),
                **photos_of(vars(config.data)).options(),
                "short_side": config.augmentation.short_side,
                "max_side": config.augmentation.max_side,
            },
        )

    @property
    def order(self) -> IndexOrder:
        """What a pass over the training data shows in the method's current phase."""
        return self._orders[self.method.phase]

    @staticmethod
    def collate(samples: list) -> tuple[list, list]:
        """Images, which differ in size, and their targets."""
        images, targets = zip(*samples, strict=True)
        return list(images), list(targets)

    def inputs(self, batch: Any) -> tuple:
        """Images and targets."""
        images, targets = batch
        return images, targets

    def validate(self, device: torch.device) -> Validation | None:
        """Score the method's own prediction on the validation split by AP."""
        if self.val_data is None:
            return None
        if self.truth is None:
            self.truth = DetectionTruth.from_dataset(self.val_data, _size(self.val_data, self.config.data.limit))
        results = evaluate_detection(
            self.detector,
            self.val_data,
            truth=self.truth,
            groups=self.config.evaluation.groups,
            readouts=[next(iter(self.method.readouts()))],
            fixed=False,
            pooled=False,
            pictures=0,
            limit=self.config.data.limit,
            **evaluation_arguments(self.config),
        )
        scores = results.own
        metrics: list[str] = [m for m in ("AP", "AP50", "mask_AP", "mask_AP50") if m in scores.overall]
        columns = {"all": scores.overall, **scores.groups}
        shown = table(
            "",
            ["validation", *columns],
            [[metric, *(_shown(values.get(metric)) for values in columns.values())] for metric in metrics],
        )
        values: dict[str, float | None] = {metric: scores.overall[metric] for metric in metrics}
        values |= {f"AP/{group}": of_group["AP"] for group, of_group in scores.groups.items()}
        known = {name: value for name, value in values.items() if value is not None and not math.isnan(value)}
        return Validation(known.get(self._metric(metrics), 0.0), known, shown)

    def _metric(self, known: list[str]) -> str:
        """What the best weights are chosen by; boxes where there are no masks to score."""
        wanted = self.config.evaluation.metric
        return wanted if wanted in known else wanted.removeprefix("mask_")

    def save(self, run: RunFolder, phases: tuple[str, ...]) -> None:
        """Write ``best.safetensors`` and ``config.json``."""
        with writing(run.weights):
            self.detector.save_run(run.path, phases)

    def describe(self) -> list[tuple[str, str]]:
        """What is trained on what."""
        data, model = self.config.data, self.config.model
        val = "no validation" if self.val_data is None else f"{_size(self.val_data, data.limit)} {data.val_split}"
        groups = ", ".join(f"{size} {name}" for name, size in zip(self.groups.names, self.groups.sizes, strict=True))
        instances = self.frequency.instances.sum() if self.frequency.instances is not None else 0
        phases = ", ".join(f"{phase} {self.config.length_of(phase)}" for phase in self.method.phases)
        total = sum(p.numel() for p in self.method.parameters())
        unlike = self.has_masks and self.val_data is not None and "masks" not in self.val_data[0]
        return [
            (
                "data",
                f"{data.dataset}: {self.train_data.sampled} {data.train_split}, {val} images; {instances} objects",
            ),
            *([("split", note)] if (note := self.train_data.dataset.note) else []),
            *([("masks", f"{data.val_split} has none: boxes alone are scored")] if unlike else []),
            ("classes", f"{self.frequency.num_classes}: {groups}"),
            ("sampling", data.sampling.by.replace("_", " ")),
            (
                "model",
                f"{model.name} of {model.dialect}, {model.backbone}, {self.config.method.name}, "
                f"{total / 1e6:.2f} M parameters",
            ),
            ("phases", phases),
        ]


class _ImagesAndTargets(Dataset):
    """Samples as (image, target): plain tensors, and only those that training reads.

    Args:
        dataset: The samples.
        sampled: Number of images that the sampler draws from.
    """

    def __init__(self, dataset: DetectionDataset, sampled: int) -> None:
        self.dataset = dataset
        self.sampled = sampled

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, drawn_for = split(index, self.sampled)
        sample: Any = self.dataset[image]
        target = {name: sample[name].as_subclass(Tensor) for name in _KEPT if name in sample}
        if drawn_for is not None:
            target["focus"] = torch.tensor(drawn_for)
        return sample["image"].as_subclass(Tensor), target


def open_detection(
    config: DetectionConfig, split: str, *, training: bool = False, transform: Callable | None = None
) -> DetectionDataset:
    """A split of the configured data set.

    Raises:
        ConfigError: No data set is named, or it is none for detection.
    """
    data = config.data
    if not data.dataset:
        raise ConfigError("data.dataset is not given", fix="name a folder of boxes, or a data set")
    options = data_options({**data.options, **(data.train_options if training else data.val_options)})
    options |= {name: value for name in ("val_share", "split_by") if (value := getattr(data, name)) is not None}
    options, photos = {**options, "task": "detection"}, photos_of(vars(data))
    dataset = open_dataset(data.dataset, split, transform=transform, photos=photos, **options)
    if not isinstance(dataset, DetectionDataset) or getattr(dataset, "task", "detection") != "detection":
        raise ConfigError(
            f"{data.dataset} is no data set for detection",
            fix="give boxes in one of the layouts of docs/guide/data.md, or a class of your own",
        )
    if not len(dataset):
        raise DataError(f"{data.dataset} has no images in split {split!r}", fix="check the annotation file")
    return dataset


def open_validation(config: DetectionConfig, split: str) -> DetectionDataset:
    """A split as evaluation reads it."""
    settings = config.augmentation
    transform = detection_eval(settings.short_side, settings.max_side, **_normalisation(config))
    return open_detection(config, split, training=split == config.data.train_split, transform=transform)


def _check_apart(config: DetectionConfig, train: DetectionDataset, val: DetectionDataset) -> None:
    """Refuse images that are in both splits, unless the same split is named twice.

    Raises:
        DataError: There are such images.
    """
    names = config.data.train_split, config.data.val_split
    files = [getattr(dataset, "image_files", None) for dataset in (train, val)]
    if names[0] != names[1] and all(files):
        fix = "give each split its own images; part one file of all images with data.val_share or data.split_by"
        refuse_shared_images(files[0], files[1], names, fix)  # type: ignore[arg-type]


def frequency_of(config: DetectionConfig, dataset: DetectionDataset) -> ClassFrequency:
    """Instances and images of every class of the training split, read or counted.

    Raises:
        ConfigError: The file is of other classes.
    """
    if config.data.frequency is None:
        return count_instances(dataset)
    return ClassFrequency.from_json(config.data.frequency).in_order_of(dataset.classes.names, "the data set")


def detection_groups(settings: DetectionGroupsConfig, frequency: ClassFrequency) -> CategoryGroups:
    """Groups of the classes, rarest first.

    Raises:
        ConfigError: Explicit groups of other classes.
    """
    if settings.by == "explicit":
        groups = CategoryGroups.explicit(settings.members)
        if groups.num_classes != frequency.num_classes:
            raise ConfigError(
                f"data.groups.members name {groups.num_classes} classes of {frequency.num_classes}",
                fix="list every class id once",
            )
        return groups
    if settings.by == "lvis":
        return CategoryGroups.lvis(frequency.counts("images"))
    counts = frequency.counts("images" if settings.by == "images" else "instances")
    if settings.by == "rank":
        return CategoryGroups.by_rank(counts, settings.sizes[::-1]).rarest_first
    if settings.by == "mass":
        return CategoryGroups.by_mass(counts, settings.masses).rarest_first
    return CategoryGroups.by_count(counts, settings.edges)


def sampling_order(config: DetectionConfig, dataset: DetectionDataset, phase: str = "train") -> IndexOrder:
    """What a pass over the training data shows in a phase."""
    sampling, size = config.data.sampling, _size(dataset, config.data.limit)
    later = config.method.classifier_phase
    by = (later and phase == "classifier" and later.sampling) or sampling.by
    if by == "shuffled":
        return Shuffled(size)
    labels = dataset.image_labels[:size]
    if by == "repeat_factor":
        return RepeatFactor(labels, sampling.threshold)
    return TwoLevel(labels) if by == "two_level" else ClassAware(labels)


def evaluation_arguments(config: DetectionConfig) -> dict[str, Any]:
    """Arguments of ``evaluate_detection`` that the configuration holds."""
    return {
        "batch_size": config.evaluation.batch_size,
        "max_detections": config.evaluation.max_detections,
        "workers": config.loading.workers,
    }


def score_detection_run(
    run_dir: str | Path,
    *,
    split: str | None = None,
    device: str | torch.device = "cpu",
    out: str | Path | None = None,
    recording: str | Path | None = None,
    progress: bool = True,
    changes: dict[str, Any] | None = None,
    trust_code: bool = False,
) -> Results:
    """Evaluate the best weights of a run with every readout; writes ``results.json`` and ``pictures/``.

    Args:
        run_dir: Run folder.
        split: Split to score; the validation split where not given.
        device: Where to compute.
        out: Folder to write into; the run folder where not given, see ``run_to_score``.
        recording: Folder to record every stage's outputs in.
        progress: Show a bar on a terminal.
        changes: Settings to evaluate with other than those of the run, as nested values.
        trust_code: Whether the run may name code outside this library, such as a loss.
    """
    scored = run_to_score(DetectionConfig, run_dir, out, split, changes)
    config = scored.config
    detector = Detector.from_pretrained(scored.run.path, trust_code=trust_code).to(device)
    if config.evaluation.flip or config.evaluation.scales != (1.0,):
        detector.method = augmented(detector.method, config.evaluation.scales, config.evaluation.flip)
    dataset = open_validation(config, scored.split)
    results = evaluate_detection(
        detector,
        dataset,
        groups=config.evaluation.groups,
        readouts=config.evaluation.readouts,
        recording=recording,
        progress=progress,
        **scored.arguments(),
        **evaluation_arguments(config),
    )
    return scored.keep(results)


def _normalisation(config: DetectionConfig) -> dict[str, list[float]]:
    settings = config.augmentation
    return normalisation(photos_of(vars(config.data)).num_bands, settings.mean, settings.std)


def _shown(value: float | None) -> str:
    return percent(None if value is None or math.isnan(value) else value)


def _size(dataset: DetectionDataset, limit: int | None) -> int:
    return len(dataset) if limit is None else min(limit, len(dataset))
