"""Detection: its data, detector and evaluation, from a ``DetectionConfig``."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longtail.datasets.base import DetectionDataset
from longtail.datasets.shared_images import refuse_shared_images
from longtail.detection.config import is_cascade, library_of
from longtail.detection.method import DetectionMethod
from longtail.errors import ConfigError, DataError
from longtail.frequency import ClassFrequency
from longtail.frequency.count_instances import count_instances
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.results import Results
from longtail.models.detector import Detector, augmented
from longtail.models.pretrained import facts_of, photos_of
from longtail.training.detection_config import DetectionConfig
from longtail.training.evaluate_detection import evaluate_detection
from longtail.training.evaluation import check_same_classes, limited
from longtail.training.groups import object_groups
from longtail.training.tasks.data_task import DataTask, normalisation_of
from longtail.transforms import IMAGENET_MEAN, detection_eval, detection_train
from longtail.transforms.copy_paste import CopyPaste

#: What training needs of a sample.
_KEPT = ("boxes", "labels", "masks", "crowd", "semantic")


class DetectionTask(DataTask):
    """See ``DataTask``."""

    settings = DetectionConfig
    model_class = Detector
    shown_metrics = ("AP", "AP50", "mask_AP", "mask_AP50")
    class_metric = "AP"
    unit = "instances"
    truth: DetectionTruth | None = None
    build_groups = staticmethod(object_groups)

    @classmethod
    def open_validation(cls, config: DetectionConfig, split: str) -> DetectionDataset:
        """A split as evaluation reads it."""
        settings = config.augmentation
        transform = detection_eval(settings.short_side, settings.max_side, **normalisation_of(config))
        return cls.open(config, split, training=split == config.data.train_split, transform=transform)

    @classmethod
    def count(cls, dataset: DetectionDataset) -> ClassFrequency:
        """Instances and images of every class."""
        return count_instances(dataset)

    @staticmethod
    def sampling_facts(dataset: DetectionDataset, size: int) -> dict[str, Callable[[], Any]]:
        """See ``DataTask``."""
        return {"num_images": lambda: size, "image_labels": lambda: dataset.image_labels[:size]}

    def preparation(self, dataset: DetectionDataset) -> Callable[[Any, int | None], tuple[Tensor, dict[str, Tensor]]]:
        """Augmentation."""
        settings = self.config.augmentation
        values = normalisation_of(self.config)
        if settings.photometric and len(values["mean"]) != len(IMAGENET_MEAN):
            raise ConfigError(
                f"augmentation.photometric, and photographs of {len(values['mean'])} bands", fix="set it to false"
            )
        augment = detection_train(
            settings.short_sides,
            settings.max_side,
            settings.flip,
            jitter=settings.jitter,
            photometric=settings.photometric,
            **values,
        )
        return partial(_prepared, augment, self._copy_paste(dataset) if settings.copy_paste else None)

    def _copy_paste(self, dataset: DetectionDataset) -> CopyPaste:
        """Rare objects of other training images.

        Raises:
            ConfigError: The data have no masks, or maps of semantic classes, which would not know what is pasted.
        """
        stored = copy.copy(dataset)
        stored.transform = None
        if "masks" not in (first := stored[0]) or "semantic" in first:
            has = "semantic maps" if "semantic" in first else "no masks"
            raise ConfigError(
                f"augmentation.copy_paste, and the training data have {has}", fix="set augmentation.copy_paste to 0"
            )
        size = limited(dataset, self.config.data.limit)
        return CopyPaste(stored, dataset.image_labels[:size], self.config.augmentation.copy_paste)

    def check_training(self, dataset: DetectionDataset) -> None:
        """Refuse training data without objects, or without the semantic maps asked for.

        Raises:
            DataError: There are no objects.
            ConfigError: A semantic branch is to be trained without maps.
        """
        config, data = self.config, self.config.data
        size = limited(dataset, data.limit)
        if not any(map(len, dataset.image_labels[:size])):
            raise DataError(
                f"the {size} images of {data.train_split} have no objects", fix="give annotations to train on"
            )
        first = dataset[0]
        self.has_masks = "masks" in first
        if config.model.semantic_classes is not None and "semantic" not in first:
            raise ConfigError(
                "model.semantic_classes is given, but the training data have no semantic maps",
                fix="set data.train_options.semantic to a folder of maps or to 'objects', or leave the branch out",
            )

    def check_validation(self, train: DetectionDataset, val: DetectionDataset) -> None:
        """Refuse other classes than the training split's, shared images, and annotations that cannot be scored.

        Raises:
            DataError: One is found.
        """
        data = self.config.data
        check_same_classes(
            data.train_split,
            train.classes.names,
            data.val_split,
            val.classes.names,
            fix="give both annotation files the same categories",
        )
        files = [getattr(images, "image_files", None) for images in (train, val)]
        if data.train_split != data.val_split and all(files):
            fix = "give each split its own images; part one file of all images with data.val_share or data.split_by"
            refuse_shared_images(files[0], files[1], (data.train_split, data.val_split), fix)  # type: ignore[arg-type]
        if hasattr(val, "file"):  # what the evaluator cannot read is refused before training
            self.truth = DetectionTruth.from_dataset(val, limited(val, data.limit))

    def shown_in_validation(self) -> list[int] | None:
        """Classes with an object."""
        labels = self.val_data.image_labels[: limited(self.val_data, self.config.data.limit)]
        return sorted({int(label) for own in labels for label in own})

    def build_model(self, dataset: DetectionDataset) -> Detector:
        """The detector, untrained."""
        config = self.config
        model = config.model.settings(dataset.classes.num_classes)
        if not self.has_masks and is_cascade(model["name"]):
            model.setdefault("masks", "none")
        return Detector(
            model=model,
            method=config.method.to_dict(),
            input={
                **normalisation_of(config),
                **photos_of(vars(config.data)).options(),
                "short_side": config.augmentation.short_side,
                "max_side": config.augmentation.max_side,
            },
            **facts_of(dataset, self.frequency, self.groups),
        )

    @staticmethod
    def collate(samples: list) -> tuple[list, list]:
        """Images, which differ in size, and their targets."""
        images, targets = zip(*samples, strict=True)
        return list(images), list(targets)

    def inputs(self, batch: Any) -> tuple:
        """Images and targets."""
        images, targets = batch
        return images, targets

    def input_words(self) -> str:
        """What a batch holds, in words."""
        sides = self.config.augmentation.short_sides
        return f"images with a short side of {min(sides)} … {max(sides)}"

    def score_validation(self) -> Results:
        """Score the method's own prediction on the validation split."""
        limit = self.config.data.limit
        if self.truth is None:
            self.truth = DetectionTruth.from_dataset(self.val_data, limited(self.val_data, limit))
        return self._evaluate(
            self.config,
            self.model,
            self.val_data,
            truth=self.truth,
            readouts=[next(iter(self.method.readouts()))],
            fixed=False,
            pooled=False,
            diagnose=False,
            pictures=0,
            limit=limit,
        )

    def best_metric(self, known: Sequence[str]) -> str:
        """That of the settings; of boxes where there are no masks to score."""
        wanted = self.config.evaluation.metric
        return wanted if wanted in known else wanted.removeprefix("mask_")

    @classmethod
    def evaluate(cls, config: DetectionConfig, model: Detector, dataset: DetectionDataset, **arguments: Any) -> Results:
        """Score a model with the settings of a run; other ``arguments`` as of ``evaluate_detection``."""
        settings = config.evaluation
        if settings.flip or settings.scales != (1.0,):
            model.method = augmented(model.method, settings.scales, settings.flip)
        training = cls.examples(config) if arguments.get("pictures") else None
        return cls._evaluate(config, model, dataset, readouts=settings.readouts, training=training, **arguments)

    @staticmethod
    def _evaluate(
        config: DetectionConfig, model: Detector | DetectionMethod, dataset: DetectionDataset, **arguments: Any
    ) -> Results:
        settings = config.evaluation
        return evaluate_detection(
            model,
            dataset,
            groups=settings.groups,
            batch_size=settings.batch_size,
            max_detections=settings.max_detections,
            workers=config.loading.workers,
            **arguments,
        )

    def notes(self) -> list[tuple[str, str]]:
        """Objects, and whether their masks are scored."""
        instances = self.frequency.instances
        found = [("objects", str(0 if instances is None else instances.sum()))]
        if self.has_masks and self.val_data is not None and "masks" not in self.val_data[0]:
            found.append(("masks", f"{self.config.data.val_split} has none: boxes alone are scored"))
        return found

    def model_words(self) -> str:
        """The detector in words."""
        model = self.config.model
        if library_of(model.name):
            return f"{model.name}, {model.backbone.name}" if model.backbone.name else model.name
        return f"{model.name} of {model.dialect or 'mmdetection'}, {model.backbone.name or 'torchvision/resnet50'}"


def _prepared(
    augment: Callable, copy_paste: CopyPaste | None, sample: Any, drawn_for: int | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Image and target as plain tensors; the target has what training reads."""
    found = augment(sample if copy_paste is None else copy_paste(sample))
    target = {name: found[name].as_subclass(Tensor) for name in _KEPT if name in found}
    if drawn_for is not None:
        target["focus"] = torch.tensor(drawn_for)
    return found["image"].as_subclass(Tensor), target
