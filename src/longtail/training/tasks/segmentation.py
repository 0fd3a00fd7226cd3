"""Segmentation: its data, model and evaluation, from a ``SegmentationConfig``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric import Fabric
from torch import Tensor

from longtail.datasets.base import SegmentationDataset
from longtail.datasets.pairs import ImageLabelPairs
from longtail.datasets.shared_images import refuse_shared_images
from longtail.errors import DataError
from longtail.frequency import ClassFrequency
from longtail.frequency.absent_classes import absent_classes
from longtail.frequency.count_pixels import count_pixels, pixels_per_image
from longtail.metrics.results import Results
from longtail.models.pretrained import facts_of, photos_of
from longtail.models.segmenter import Segmenter
from longtail.samplers.rare_class import shown_in
from longtail.segmentation.method import SegmentationMethod
from longtail.segmentation.models import resolved_options
from longtail.settings import to_dict
from longtail.training.console import Console
from longtail.training.evaluate_segmentation import evaluate_segmentation
from longtail.training.feature_cache import ViewOrder, Views, fill_cache, plan_cache
from longtail.training.groups import frequency_cache, pixel_groups
from longtail.training.run_folder import RunFolder, environment_rank
from longtail.training.segmentation_config import SegmentationConfig
from longtail.training.tasks.data_task import DataTask, normalisation_of
from longtail.transforms import segmentation_eval, segmentation_train
from longtail.transforms.segmentation import FocusClass


class SegmentationTask(DataTask):
    """See ``DataTask``."""

    settings = SegmentationConfig
    model_class = Segmenter
    shown_metrics = ("mIoU", "mAcc")
    logged_metrics = ("aAcc",)
    class_metric = "IoU"
    unit = "pixels"
    _doubt = ""
    build_groups = staticmethod(pixel_groups)

    @classmethod
    def open_validation(cls, config: SegmentationConfig, split: str) -> SegmentationDataset:
        """A split as evaluation reads it."""
        return cls.open(config, split, transform=segmentation_eval(**_network_input(config)))

    @classmethod
    def count(cls, dataset: SegmentationDataset) -> ClassFrequency:
        """Pixels and images of every class, counted once and cached."""
        return count_pixels(dataset, cache=frequency_cache(), progress=environment_rank() == 0)

    @staticmethod
    def sampling_facts(dataset: SegmentationDataset, size: int) -> dict[str, Callable[[], Any]]:
        """See ``DataTask``."""
        return {
            "num_images": lambda: size,
            "image_labels": lambda: shown_in(pixels_per_image(dataset)[:size]),
            "pixels": lambda: pixels_per_image(dataset)[:size],
        }

    def preparation(self, dataset: SegmentationDataset) -> Callable[[Any, int | None], dict[str, Tensor]]:
        """Augmentation; it sees the class that a sample was drawn for."""
        settings = self.config.augmentation
        augment = segmentation_train(
            settings.crop,
            settings.scale,
            settings.cat_max_ratio,
            short_side=settings.short_side,
            max_side=settings.max_side,
            flip=settings.flip,
            photometric=settings.photometric,
            ignore_index=dataset.ignore_index,
            **normalisation_of(self.config),
        )
        return partial(_prepared, augment)

    def check_training(self, dataset: SegmentationDataset) -> None:
        """Refuse images that do not fit their labels; look for classes without a pixel.

        Raises:
            DataError: One is found.
        """
        if dataset.label_format.table is None:
            source = f"{self.config.data.dataset}, split {self.config.data.train_split!r},"
            self._doubt = absent_classes(self.frequency, dataset.ignore_index, source)
        if isinstance(dataset, ImageLabelPairs) and environment_rank() == 0:
            dataset.check_images()

    def check_validation(self, train: SegmentationDataset, val: SegmentationDataset) -> None:
        """Refuse label files that are unreadable, hold other values than classes, or are training images.

        Raises:
            DataError: One is found, or no pixel is labelled.
        """
        data = self.config.data
        if val.label_files:
            other = data.train_split != data.val_split
            if other and isinstance(train, ImageLabelPairs) and isinstance(val, ImageLabelPairs):
                refuse_shared_images(train.image_files, val.image_files, (data.train_split, data.val_split))
            frequency = self.count(val)
            if not frequency.counts("pixels").any():
                raise DataError(
                    f"the {len(val)} images of {data.val_split!r} have no labelled pixel",
                    fix="correct their labels; to train without validation, set data.val_split ''",
                )
            if val.label_format.table is None:
                absent_classes(frequency, val.ignore_index, f"split {data.val_split!r}")
        if isinstance(val, ImageLabelPairs) and environment_rank() == 0:
            val.check_images()

    def shown_in_validation(self) -> list[int] | None:
        """Classes with a labelled pixel, where there are label files."""
        if not self.val_data.label_files:
            return None
        return np.flatnonzero(self.count(self.val_data).counts("pixels")).tolist()

    def build_model(self, dataset: SegmentationDataset) -> Segmenter:
        """The segmenter, untrained."""
        config = self.config
        model = config.model
        own = {"weights": model.weights} if model.weights is not None else {}
        own |= {"classifier": model.classifier} if model.classifier != "linear" else {}
        options = resolved_options(model.name, dataset.classes.num_classes, dict(model.options))
        segmenter = Segmenter(
            model={"name": model.name, **options, **own},
            method=config.method.to_dict(),
            input=_network_input(config) | photos_of(vars(config.data)).options(),
            ignore_index=dataset.ignore_index,
            **facts_of(dataset, self.frequency, self.groups),
        )
        if config.freeze is not None:
            segmenter.method.freeze(config.freeze)
        return segmenter

    def prepare(self, fabric: Fabric, run: RunFolder, console: Console) -> None:
        """Compute the features of a frozen encoder, where they are kept."""
        settings, size = self.config.cache, self.train_data.sampled
        if not settings.views:
            return
        self.method.to(fabric.device)
        views = Views(self.train_data, size, settings.views, self.config.seed)
        cache = plan_cache(Path(settings.folder or run.path / "features"), views, self.method, fabric.device)
        console.say(f"[bold]features[/]  {len(views)} views, {cache.bytes / 1e9:.2f} GB in {cache.folder}")
        facts = {
            "data": [self.data_fingerprint, size],
            "augmentation": to_dict(self.config.augmentation),
            "seed": self.config.seed,
            "precision": self.config.hardware.precision,
        }
        loading = self.config.loading
        there = fill_cache(
            cache,
            views,
            self.method,
            facts,
            fabric,
            batch_size=loading.batch_size,
            workers=loading.workers,
            progress=True,
        )
        if there:
            console.say(f"[bold]features[/]  of {cache.folder} are those of this encoder and data")
        self.train_data, self.order = cache, ViewOrder(self.order, size, settings.views)

    def inputs(self, batch: dict[str, Any]) -> tuple[Any, Tensor]:
        """Normalised images, or their features, and their targets."""
        return batch["features" if "features" in batch else "image"], batch["mask"].long()

    def notes(self) -> list[tuple[str, str]]:
        """What to doubt of the labels."""
        return [("labels", self._doubt)] if self._doubt else []

    def input_words(self) -> str:
        """What a batch holds, in words."""
        height, width = self.config.augmentation.crop
        return f"crops of {height} x {width}"

    def score_validation(self) -> Results:
        """Score the method's own prediction on the validation split."""
        own = next(iter(self.method.readouts()))
        quick: dict[str, Any] = {
            "groups": self.groups,
            "readouts": [own],
            "bias": False,
            "diagnose": False,
            "pictures": 0,
        }
        return self.evaluate(self.config, self.method, self.val_data, limit=self.config.data.limit, **quick)

    @classmethod
    def evaluate(
        cls,
        config: SegmentationConfig,
        model: Segmenter | SegmentationMethod,
        dataset: SegmentationDataset,
        **arguments: Any,
    ) -> Results:
        """Score a model with the settings of a run; other ``arguments`` as of ``evaluate_segmentation``."""
        settings = config.evaluation
        if settings.taus and isinstance(model, Segmenter):
            arguments = {"ensembles": model.ensembles(model.dial(settings.taus)), **arguments}
        if arguments.get("pictures"):
            training = cls.examples(config)
            arguments["training"] = training if isinstance(training, ImageLabelPairs) else None
        return evaluate_segmentation(
            model,
            dataset,
            batch_size=settings.batch_size,
            sliding_window=settings.sliding_window,
            stride=settings.stride,
            workers=config.loading.workers,
            **arguments,
        )


def label_doubt(dataset: SegmentationDataset, source: str) -> str:
    """A word on classes without a pixel in label files that hold class ids; see ``absent_classes``.

    Raises:
        DataError: One class alone has pixels, and the ignored value is all else.
    """
    if not dataset.label_files or dataset.label_format.table is not None:
        return ""
    return absent_classes(SegmentationTask.count(dataset), dataset.ignore_index, source)


def _prepared(augment: Callable, sample: Any, drawn_for: int | None) -> dict[str, Tensor]:
    """What a batch needs of a sample: names and sizes of images cannot be stacked."""
    focus = {} if drawn_for is None else {"focus": FocusClass(drawn_for)}
    augmented = augment({**sample, **focus})
    return {name: augmented[name].as_subclass(Tensor) for name in ("image", "mask")}


def _network_input(config: SegmentationConfig) -> dict[str, Any]:
    """How evaluation and prediction bring an image to the network."""
    settings = config.augmentation
    whole = settings.eval_size is None
    return {
        **normalisation_of(config),
        "short_side": settings.short_side if whole else None,
        "max_side": settings.max_side if whole else None,
        "size": None if settings.eval_size is None else list(settings.eval_size),
    }
