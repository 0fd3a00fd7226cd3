"""Segmentation as the engine sees it: data, model and method of a ``SegmentationConfig``."""

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtail.datasets import open_dataset
from longtail.datasets.base import SegmentationDataset
from longtail.datasets.fingerprint import fingerprint_of
from longtail.datasets.open import data_options
from longtail.datasets.pairs import ImageLabelPairs
from longtail.datasets.shared_images import refuse_shared_images
from longtail.errors import ConfigError, DataError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.frequency.absent_classes import absent_classes
from longtail.frequency.count_pixels import count_pixels, pixels_per_image
from longtail.metrics.results import Results
from longtail.models.pretrained import photos_of
from longtail.models.segmenter import Segmenter, facts_of
from longtail.samplers.base import split
from longtail.samplers.class_aware import ClassAware
from longtail.samplers.rare_class import RareClass, shown_in
from longtail.samplers.repeat_factor import RepeatFactor
from longtail.segmentation.models import resolved_options
from longtail.settings import as_arguments
from longtail.training.checkpoints import writing
from longtail.training.console import percent, table
from longtail.training.evaluate import evaluate
from longtail.training.loading import IndexOrder, Shuffled
from longtail.training.run_folder import RunFolder, environment_rank
from longtail.training.scoring import run_to_score
from longtail.training.segmentation_config import GroupsConfig, PixelSamplingConfig, SegmentationConfig
from longtail.training.task import Validation, optional_validation
from longtail.transforms import normalisation, segmentation_eval, segmentation_train
from longtail.transforms.segmentation import FocusClass


class SegmentationTask:
    """A segmentation method with its data; meets ``Task``.

    Args:
        config: Settings of the run.

    Raises:
        ConfigError: A setting that cannot work.
        DataError: Data that are not what they should be.
    """

    collate: Callable[[list], Any] | None = None

    def __init__(self, config: SegmentationConfig) -> None:
        if not config.data.dataset:
            raise ConfigError("data.dataset is not given", fix="name a folder or a built-in data set")
        self.config = config
        labelled = _open(config, config.data.train_split)
        size = len(labelled) if config.data.limit is None else min(len(labelled), config.data.limit)
        self.train_data = _KeptFields(labelled, self._augmentation(labelled.ignore_index), size)
        self._order = self._classifier_order = sampling_order(config.data.sampling, labelled, size)
        later = (config.method.options.get("classifier_phase") or {}).get("sampling")
        if later is not None:
            self._classifier_order = sampling_order(replace(config.data.sampling, by=later), labelled, size)
        self.val_data: SegmentationDataset | None = None
        if config.data.val_split:
            with optional_validation():
                self.val_data = open_validation(config)
        self.frequency = frequency_of(config, labelled)
        source = f"{config.data.dataset}, split {config.data.train_split!r},"
        as_stored = labelled.label_format.table is None
        self._doubt = absent_classes(self.frequency, labelled.ignore_index, source) if as_stored else ""
        self.data_fingerprint = _content_of(labelled, self.frequency)
        if self.val_data is not None:
            _check_validation(config, labelled, self.val_data)
        for dataset in (labelled, self.val_data):
            if isinstance(dataset, ImageLabelPairs) and environment_rank() == 0:
                dataset.check_images()
        self.groups = build_groups(config.data.groups, self.frequency)
        self.segmenter = self._build_segmenter(labelled)
        self.method = self.segmenter.method

    @property
    def order(self) -> IndexOrder:
        """What a pass over the training data shows in the method's current phase."""
        return self._classifier_order if self.method.phase == "classifier" else self._order

    def _augmentation(self, ignore_index: int) -> Callable:
        settings = self.config.augmentation
        arguments: dict[str, Any] = {
            "short_side": settings.short_side,
            "max_side": settings.max_side,
            "ignore_index": ignore_index,
            **as_arguments(settings.options),
            **_normalisation(self.config),
        }
        try:
            return segmentation_train(settings.crop, settings.scale, settings.cat_max_ratio, **arguments)
        except TypeError as error:
            raise ConfigError(
                f"augmentation.options: {error}", fix="give arguments of transforms.segmentation_train"
            ) from error

    def _build_segmenter(self, dataset: SegmentationDataset) -> Segmenter:
        config = self.config
        options = resolved_options(config.model.name, dataset.classes.num_classes, dict(config.model.options))
        weights = {} if config.model.weights is None else {"weights": config.model.weights}
        return Segmenter(
            model={"name": config.model.name, **options, **weights},
            method={"name": config.method.name, **config.method.options},
            input=_network_input(config) | photos_of(vars(config.data)).options(),
            **facts_of(dataset, self.frequency, self.groups),
        )

    def inputs(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Normalised images and their targets."""
        return batch["image"], batch["mask"].long()

    def validate(self, device: torch.device) -> Validation | None:
        """Score the method's own prediction on the validation split."""
        if self.val_data is None:
            return None
        results = evaluate(
            self.method,
            self.val_data,
            groups=self.groups,
            readouts=[next(iter(self.method.readouts()))],
            bias=False,
            pictures=0,
            limit=self.config.data.limit,
            **evaluation_arguments(self.config),
        )
        scores = results.own
        columns = {"all": scores.overall, **scores.groups}
        shown = table(
            "",
            ["validation", *columns],
            [[metric, *(percent(values[metric]) for values in columns.values())] for metric in ("mIoU", "mAcc")],
        )
        values = {"mIoU": scores.overall["mIoU"], "mAcc": scores.overall["mAcc"], "aAcc": scores.overall["aAcc"]}
        values |= {f"mIoU/{group}": metrics["mIoU"] for group, metrics in scores.groups.items()}
        known = {name: value for name, value in values.items() if value is not None}
        return Validation(known.get("mIoU", 0.0), known, shown)

    def save(self, run: RunFolder, phases: tuple[str, ...]) -> None:
        """Write ``best.safetensors`` and ``config.json``."""
        with writing(run.weights):
            self.segmenter.save_run(run.path, phases)

    def describe(self) -> list[tuple[str, str]]:
        """What is trained on what."""
        data = self.config.data
        seen = 0 if self.val_data is None else min(len(self.val_data), data.limit or len(self.val_data))
        val = f"{seen} {data.val_split}" if seen else "no validation"
        groups = ", ".join(f"{size} {name}" for name, size in zip(self.groups.names, self.groups.sizes, strict=True))
        phases = ", ".join(f"{phase} {self.config.length_of(phase)}" for phase in self.method.phases)
        total = sum(p.numel() for p in self.method.parameters())
        return [
            ("data", f"{data.dataset}: {self.train_data.sampled} {data.train_split}, {val} images"),
            *([("split", note)] if (note := self.train_data.dataset.note) else []),
            *([("labels", self._doubt)] if self._doubt else []),
            ("classes", f"{self.frequency.num_classes}: {groups}"),
            ("sampling", data.sampling.by.replace("_", " ")),
            ("model", f"{self.config.model.name}, {self.config.method.name}, {total / 1e6:.2f} M parameters"),
            ("phases", phases),
        ]


class _KeptFields(torch.utils.data.Dataset):
    """What a batch needs of a sample: names and sizes of images cannot be stacked.

    Args:
        dataset: Samples as they are stored.
        transform: The training transform; it sees the class that a sample was drawn for.
        sampled: Number of images that the sampler draws from.
    """

    def __init__(self, dataset: SegmentationDataset, transform: Callable, sampled: int) -> None:
        self.dataset = copy.copy(dataset)
        self.dataset.transform = None
        self.transform = transform
        self.sampled = sampled

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image, drawn_for = split(index, self.sampled)
        sample: dict[str, Any] = {**self.dataset[image]}
        if drawn_for is not None:
            sample["focus"] = FocusClass(drawn_for)
        sample = self.transform(sample)
        return {name: sample[name].as_subclass(Tensor) for name in ("image", "mask")}


def sampling_order(settings: PixelSamplingConfig, dataset: SegmentationDataset, size: int) -> IndexOrder:
    """What a pass over the first ``size`` training images shows."""
    if settings.by == "shuffled":
        return Shuffled(size)
    pixels = pixels_per_image(dataset)[:size]
    if settings.by == "rare_class":
        return RareClass(pixels, temperature=settings.temperature, smallest=settings.smallest)
    labels = shown_in(pixels)
    return ClassAware(labels) if settings.by == "class_aware" else RepeatFactor(labels, settings.threshold)


def _network_input(config: SegmentationConfig) -> dict[str, Any]:
    """How evaluation and prediction bring an image to the network."""
    settings = config.augmentation
    whole = settings.eval_size is None
    return {
        **_normalisation(config),
        "short_side": settings.short_side if whole else None,
        "max_side": settings.max_side if whole else None,
        "size": None if settings.eval_size is None else list(settings.eval_size),
    }


def open_validation(config: SegmentationConfig, split: str | None = None) -> SegmentationDataset:
    """A split of the configured data set as evaluation reads it."""
    transform = segmentation_eval(**_network_input(config))
    return _open(config, split or config.data.val_split, transform)


def _open(config: SegmentationConfig, split: str, transform: Callable | None = None) -> SegmentationDataset:
    parting = {name: value for name in ("val_share", "split_by") if (value := getattr(config.data, name)) is not None}
    options = {**data_options(config.data.options), **parting, "task": "segmentation"}
    photos = photos_of(vars(config.data))
    return open_dataset(config.data.dataset, split, transform=transform, photos=photos, **options)


def _normalisation(config: SegmentationConfig) -> dict[str, list[float]]:
    options = config.augmentation.options
    return normalisation(photos_of(vars(config.data)).num_bands, options.get("mean"), options.get("std"))


def _content_of(dataset: SegmentationDataset, frequency: ClassFrequency) -> str:
    """Digest of the training data that a copy of them has, too: what has to be the same on resume."""
    files = dataset.label_files
    facts = (dataset.ignore_index, frequency.to_dict())
    return fingerprint_of(files, *facts, times=False) if files else fingerprint_of((), dataset.fingerprint, *facts)


def _check_validation(config: SegmentationConfig, train: SegmentationDataset, val: SegmentationDataset) -> None:
    """Refuse before training what would spoil the first validation, which may be hours away.

    Raises:
        DataError: A label file is unreadable or holds a value that is neither a class nor ignored, no pixel is
            labelled, or splits of different names share images.
    """
    if not val.label_files:
        return
    names = config.data.train_split, config.data.val_split
    if names[0] != names[1] and isinstance(train, ImageLabelPairs) and isinstance(val, ImageLabelPairs):
        refuse_shared_images(train.image_files, val.image_files, names)
    frequency = count_pixels(val, cache=frequency_cache(), progress=environment_rank() == 0)
    if not frequency.counts("pixels").any():
        raise DataError(
            f"the {len(val)} images of {names[1]!r} have no labelled pixel",
            fix="correct their labels; to train without validation, set data.val_split ''",
        )
    if val.label_format.table is None:
        absent_classes(frequency, val.ignore_index, f"split {names[1]!r}")


def label_doubt(dataset: SegmentationDataset, source: str) -> str:
    """A word on classes without a pixel in label files that hold class ids; see ``absent_classes``.

    Raises:
        DataError: One class alone has pixels, and the ignored value is all else.
    """
    if not dataset.label_files or dataset.label_format.table is not None:
        return ""
    frequency = count_pixels(dataset, cache=frequency_cache(), progress=environment_rank() == 0)
    return absent_classes(frequency, dataset.ignore_index, source)


def evaluation_arguments(config: SegmentationConfig) -> dict[str, Any]:
    """Arguments of ``evaluate`` that the configuration holds."""
    settings = config.evaluation
    return {
        "batch_size": settings.batch_size,
        "sliding_window": settings.sliding_window,
        "stride": settings.stride,
        "workers": config.loading.workers,
    }


def frequency_of(config: SegmentationConfig, dataset: SegmentationDataset) -> ClassFrequency:
    """Class frequencies of the training split: read, or counted once and cached.

    Raises:
        DataError: The file is of other classes.
    """
    if config.data.frequency is None:
        return count_pixels(dataset, cache=frequency_cache(), progress=environment_rank() == 0)
    return ClassFrequency.from_json(config.data.frequency).in_order_of(dataset.classes.names, "the data set")


def frequency_cache() -> Path:
    """Folder of cached counts: ``LONGTAIL_CACHE``, else the user's cache."""
    home = os.environ.get("LONGTAIL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "longtail"
    return Path(home) / "frequency"


def build_groups(settings: GroupsConfig, frequency: ClassFrequency) -> CategoryGroups:
    """Groups of the classes, most frequent first."""
    if settings.by == "explicit":
        groups = CategoryGroups.explicit(settings.members)
        if groups.num_classes != frequency.num_classes:
            raise ConfigError(
                f"data.groups.members name {groups.num_classes} classes of {frequency.num_classes}",
                fix="list every class id once",
            )
        return groups
    if settings.by == "rank":
        return CategoryGroups.by_rank(frequency.counts("pixels"), settings.sizes)
    if settings.by == "mass":
        return CategoryGroups.by_mass(frequency.counts("pixels"), settings.masses)
    return CategoryGroups.by_share(frequency, settings.thresholds)


def score_run(
    run_dir: str | Path,
    *,
    split: str | None = None,
    device: str | torch.device = "cpu",
    out: str | Path | None = None,
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
        progress: Show a bar on a terminal.
        changes: Settings to evaluate with other than those of the run, as nested values.
        trust_code: Whether the run may name a model builder outside this library.
    """
    scored = run_to_score(SegmentationConfig, run_dir, out, split, changes)
    config = scored.config
    segmenter = Segmenter.from_pretrained(scored.run.path, trust_code=trust_code).to(device)
    results = evaluate(
        segmenter,
        open_validation(config, scored.split),
        progress=progress,
        **scored.arguments(),
        **evaluation_arguments(config),
    )
    return scored.keep(results)
