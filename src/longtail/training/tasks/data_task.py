"""What segmentation and detection have in common: open the data, count, group, build the model, validate, save."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning.fabric import Fabric
from torch.utils.data import Dataset

from longtail.datasets import open_dataset
from longtail.datasets.fingerprint import fingerprint_of
from longtail.datasets.open import data_options
from longtail.datasets.photographs import RGB
from longtail.errors import ConfigError, DataError, LongtailError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.metrics.results import Results
from longtail.models.pretrained import PretrainedModel, photos_of
from longtail.samplers.base import split
from longtail.samplers.build import build_sampler
from longtail.training.checkpoints import writing
from longtail.training.console import Console, percent, table
from longtail.training.evaluation import limited
from longtail.training.loading import IndexOrder
from longtail.training.monitor import check_monitor, monitored
from longtail.training.run_folder import RunFolder
from longtail.training.tasks.base import Validation
from longtail.transforms import normalisation


class DataTask(ABC):
    """A method with its data, from the settings of a run; meets ``Task``.

    Args:
        config: Settings of the run.

    Raises:
        ConfigError: A setting that cannot work.
        DataError: Data that are not what they should be.
    """

    #: Class of the settings.
    settings: ClassVar[type]
    #: Class of the trained model.
    model_class: ClassVar[type[PretrainedModel]]
    #: Metrics of a validation that are shown; those of ``results.own.overall`` that are there.
    shown_metrics: ClassVar[tuple[str, ...]]
    #: Metrics that are logged besides them; and the one that is logged of every class.
    logged_metrics: ClassVar[tuple[str, ...]] = ()
    class_metric: ClassVar[str]
    #: What a class must have to be learned.
    unit: ClassVar[Literal["pixels", "instances"]]
    collate: Callable[[list], Any] | None = None

    def __init__(self, config: Any) -> None:
        self.config, data = config, config.data
        labelled = self.open(config, data.train_split, training=True)
        size = limited(labelled, data.limit)
        if data.frequency is None:
            self.frequency: ClassFrequency = self.count(labelled)
        else:
            counts = ClassFrequency.from_json(data.frequency)
            self.frequency = counts.in_order_of(labelled.classes.names, "the data set")
        self.groups: CategoryGroups = self.build_groups(data.groups, self.frequency)
        self.order: IndexOrder = build_sampler(data.sampling.to_dict(), self.sampling_facts(labelled, size))
        self.train_data: Any = TrainingSamples(labelled, size, self.preparation(labelled))
        self.data_fingerprint = content_of(labelled, self.frequency)
        self.check_training(labelled)
        self.val_data: Any = None
        if data.val_split:
            with optional_validation():
                self.val_data = self.open_validation(config, data.val_split)
            self.check_validation(labelled, self.val_data)
        if config.monitor.metric is not None:
            shown = self.shown_in_validation() if data.val_split else None
            check_monitor(config.monitor.metric, self.groups, self.frequency.class_names, shown)
        self.model: Any = self.build_model(labelled)
        self.method: Any = self.model.method
        if config.train_only == "classifier":
            self.method.train_classifier_alone()

    @classmethod
    def examples(cls, config: Any) -> Any:
        """The training images, for examples next to pictures of failures; None where they are not at hand."""
        try:
            return cls.open(config, config.data.train_split, training=True)
        except LongtailError:
            return None

    @classmethod
    def open(cls, config: Any, split: str, *, training: bool = False, transform: Callable | None = None) -> Any:
        """A split of the configured data set.

        Raises:
            ConfigError: No data set is named, or it is none for the task.
            DataError: The split has no images.
        """
        data = config.data
        if not data.dataset:
            raise ConfigError("data.dataset is not given", fix="name a folder, or a data set (docs/guide/data.md)")
        own = getattr(data, "train_options" if training else "val_options", {})
        parting = {name: value for name in ("val_share", "split_by") if (value := getattr(data, name)) is not None}
        options = {**data_options({**data.options, **own}), **parting, "task": data.task}
        dataset = open_dataset(data.dataset, split, transform=transform, photos=photos_of(vars(data)), **options)
        if not len(dataset):
            raise DataError(f"{data.dataset} has no images in split {split!r}", fix="check the data and the split")
        return dataset

    @classmethod
    @abstractmethod
    def open_validation(cls, config: Any, split: str) -> Any:
        """A split as evaluation reads it."""

    @classmethod
    @abstractmethod
    def count(cls, dataset: Any) -> ClassFrequency:
        """How often each class occurs."""

    @staticmethod
    @abstractmethod
    def build_groups(settings: Any, frequency: ClassFrequency) -> CategoryGroups:
        """Groups of the classes by ``data.groups``."""

    @staticmethod
    @abstractmethod
    def sampling_facts(dataset: Any, size: int) -> dict[str, Callable[[], Any]]:
        """What samplers may ask of the first ``size`` training images; see ``build_sampler``."""

    @abstractmethod
    def preparation(self, dataset: Any) -> Callable[[Any, int | None], Any]:
        """From a stored sample, and the class that it was drawn for, to what a batch is made of; can be pickled."""

    @abstractmethod
    def check_training(self, dataset: Any) -> None:
        """Refuse training data that would spoil the training."""

    @abstractmethod
    def check_validation(self, train: Any, val: Any) -> None:
        """Refuse before training what would spoil the first validation, hours later."""

    @abstractmethod
    def shown_in_validation(self) -> list[int] | None:
        """Ids of the classes that the validation images show; None where that is not known without reading them."""

    @abstractmethod
    def build_model(self, dataset: Any) -> PretrainedModel:
        """The model with its method, untrained."""

    @abstractmethod
    def inputs(self, batch: Any) -> tuple:
        """Arguments of ``method.losses``."""

    @abstractmethod
    def score_validation(self) -> Results:
        """Score the method's own prediction on the validation split, without what costs time."""

    @classmethod
    @abstractmethod
    def evaluate(cls, config: Any, model: Any, dataset: Any, **arguments: Any) -> Results:
        """Score a trained model with every readout that the settings ask for."""

    def best_metric(self, known: Sequence[str]) -> str:
        """What the best weights are chosen by."""
        return known[0]

    def prepare(self, fabric: Fabric, run: RunFolder, console: Console) -> None:  # noqa: B027
        """Nothing to compute before the first step."""

    def validate(self, device: torch.device) -> Validation | None:
        """Score the current weights; None where there is nothing to validate on."""
        if self.val_data is None:
            return None
        results = self.score_validation()
        scores = results.own
        metrics = [metric for metric in self.shown_metrics if metric in scores.overall]
        columns = {"all": scores.overall, **scores.groups}
        shown = table(
            "",
            ["validation", *columns],
            [[metric, *(percent(values.get(metric)) for values in columns.values())] for metric in metrics],
        )
        values = {metric: scores.overall[metric] for metric in (*metrics, *self.logged_metrics)}
        values |= {f"{m}/{group}": of.get(m) for group, of in scores.groups.items() for m in metrics}
        known, wanted = _defined(values), self.config.monitor.metric
        score = known.get(self.best_metric(metrics), 0.0) if wanted is None else monitored(results, wanted)
        metric = self.class_metric
        of_classes = zip(results.class_names, scores.per_class.get(metric, ()), strict=False)
        classes = _defined({f"{metric}_by_class/{name}": value for name, value in of_classes})
        return Validation(score, known, shown, classes)

    def save(self, run: RunFolder, phases: tuple[str, ...]) -> None:
        """Write ``best.safetensors`` and ``config.json``."""
        with writing(run.weights):
            self.model.save_run(run.path, phases)

    def describe(self) -> list[tuple[str, str]]:
        """What is trained on what."""
        data, labelled = self.config.data, self.train_data.dataset
        val = f"{limited(self.val_data, data.limit)} {data.val_split}" if self.val_data is not None else "no validation"
        groups = ", ".join(f"{size} {name}" for name, size in zip(self.groups.names, self.groups.sizes, strict=True))
        total = sum(p.numel() for p in self.method.parameters())
        phases = ", ".join(f"{phase} {self.config.length_of(phase)}" for phase in self.method.phases)
        bands = self.model.photos.num_bands
        note = getattr(labelled, "note", "")
        return [
            ("data", f"{data.dataset}: {self.train_data.sampled} {data.train_split}, {val} images"),
            *([("split", note)] if note else []),
            *([("bands", f"{bands}: the first convolution is adapted from RGB")] if bands != RGB.num_bands else []),
            *self.notes(),
            ("classes", f"{self.frequency.num_classes}: {groups}"),
            ("sampling", data.sampling.name.replace("_", " ")),
            ("model", f"{self.model_words()}, {self.config.method.name}, {total / 1e6:.2f} M parameters"),
            ("phases", phases),
            *self._absent(),
        ]

    def _absent(self) -> list[tuple[str, str]]:
        """Classes that nothing can be learned of."""
        empty = np.flatnonzero(self.frequency.counts(self.unit) == 0)
        if not len(empty):
            return []
        names = ", ".join(self.frequency.class_names[c] for c in empty[:5]) + (" …" if len(empty) > 5 else "")
        return [("warning", f"{len(empty)} classes have no {self.unit} to train on, and will score 0: {names}")]

    def notes(self) -> list[tuple[str, str]]:
        """What else to know of the data."""
        return []

    @abstractmethod
    def input_words(self) -> str:
        """What a batch holds, in words."""

    def model_words(self) -> str:
        """The model in words."""
        return self.config.model.name


class TrainingSamples(Dataset):
    """The samples of a training run, augmented.

    Args:
        dataset: Samples as they are stored.
        sampled: Number of images that the sampler draws from.
        prepare: See ``DataTask.preparation``.
    """

    def __init__(self, dataset: Any, sampled: int, prepare: Callable[[Any, int | None], Any]) -> None:
        self.dataset = copy.copy(dataset)
        self.dataset.transform = None
        self.sampled = sampled
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        image, drawn_for = split(index, self.sampled)
        return self.prepare(self.dataset[image], drawn_for)


def _defined(values: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None and not math.isnan(value)}


def normalisation_of(config: Any) -> dict[str, list[float]]:
    """Mean and standard deviation of the bands of the photographs."""
    settings = config.augmentation
    return normalisation(photos_of(vars(config.data)).num_bands, settings.mean, settings.std)


def content_of(dataset: Any, frequency: ClassFrequency) -> str:
    """Digest of the training data; a copy of them has the same. It must be the same on resume."""
    files = getattr(dataset, "label_files", None)
    facts = (getattr(dataset, "ignore_index", None), frequency.to_dict())
    return fingerprint_of(files, *facts, times=False) if files else fingerprint_of((), dataset.fingerprint, *facts)


@contextmanager
def optional_validation() -> Iterator[None]:
    """Let errors of opening the validation split say that training goes without one."""
    try:
        yield
    except DataError as error:
        raise DataError(
            error.problem, fix=f"{error.fix}; to train without validation, set data.val_split ''"
        ) from error
