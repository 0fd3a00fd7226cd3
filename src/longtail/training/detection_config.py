"""Settings of a detection run. This module does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from longtail.datasets.open import Task
from longtail.detection.config import CascadeConfig, is_cascade, library_of
from longtail.errors import ConfigError
from longtail.models.detection_methods.base import DetectionMethodConfig
from longtail.models.detection_methods.mec import MecConfig
from longtail.settings import Chosen, Section, one_of
from longtail.training.config import OptimiserConfig, RunConfig, not_negative, positive, within
from longtail.training.data_config import ClassGroupsConfig, DataSection

#: How the groups to score by are chosen, see ``DetectionEvaluationConfig``.
EvaluationGroups = Literal["auto", "training", "file", "standard"]

#: The recipe of the paper, and AdamW as the field trains detectors with it. Source: MEC §A; SPEC C11.
DETECTION_RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {
        "lr": 0.02,
        "weight_decay": 1e-4,
        "schedule": "step",
        "power": 0.9,
        "warmup_iterations": 1_000,
        "warmup_start": 0.1,
        "head_lr_factor": 1.0,
        "decay_norms": True,
    },
    "adamw": {
        "lr": 1e-4,
        "weight_decay": 0.05,
        "schedule": "step",
        "power": 1.0,
        "warmup_iterations": 1_000,
        "warmup_start": 0.001,
        "head_lr_factor": 1.0,
        "decay_norms": False,
    },
}


@dataclass
class DetectionOptimiserConfig(OptimiserConfig):
    """Optimiser and learning-rate schedule. What is not given takes the value of the recipe of that name.

    Args:
        name: sgd (the paper's recipe, for 16 images a step) or adamw
        lr: base learning rate [sgd 0.02, adamw 1e-4]
        weight_decay: weight decay [sgd 1e-4, adamw 0.05]
        schedule: step, a fall to a tenth at each of steps, or poly, a polynomial decay over the whole phase [step]
        warmup_iterations: iterations of linear warm-up before the decay [1000]
        warmup_start: fraction of the learning rate at which the warm-up starts [sgd 0.1, adamw 0.001]
        head_lr_factor: learning rate of all that is not backbone, relative to lr [1]
    """

    recipes: ClassVar[dict[str, dict[str, Any]]] = DETECTION_RECIPES


@dataclass
class DetectionGroupsConfig(ClassGroupsConfig):
    """How the classes are put into groups, rarest first. Stage k of a multi-expert cascade is the expert of group k.

    Args:
        by: training instances (the paper's), training images, LVIS's own groups (images, edges inclusive), rank or
            cumulative mass by instances, or explicit lists of class ids
        edges: ascending counts that part the groups; of by = instances and images. Four stages: [10, 100, 500]
    """

    ways: ClassVar[tuple[str, ...]] = ("instances", "images", "lvis", "rank", "mass", "explicit")

    by: Literal["instances", "images", "lvis", "rank", "mass", "explicit"] = "instances"
    edges: tuple[int, ...] = (10, 100)


@dataclass
class DetectionDataConfig(DataSection):
    """What to train and validate on.

    Args:
        dataset: folder of a layout that docs/guide/data.md lists, coco:ROOT, lvis:ROOT, yolo:ROOT, voc:ROOT, table:ROOT,
            hf:FOLDER, longtail-scenes, or the dotted path of your own class
        options: options of the data set, next to these settings: {dataset: PATH, masks: false}
        train_options: those of the training split alone, such as {annotations: FILE, images: FOLDER}; paths are
            relative to the data set, or to where you stand
        val_options: those of the validation split alone
        groups: How the classes are put into groups, rarest first
    """

    task: ClassVar[Task] = "detection"

    train_options: dict[str, Any] = field(default_factory=dict)
    val_options: dict[str, Any] = field(default_factory=dict)
    groups: DetectionGroupsConfig = field(default_factory=DetectionGroupsConfig)


@dataclass
class DetectionAugmentationConfig:
    """From stored images to network input.

    Args:
        short_sides: lengths of the shorter side; one is drawn for each training image
        max_side: upper limit of the longer side
        flip: probability of a horizontal flip
        jitter: smallest and largest factor of large-scale jitter, such as [0.1, 2]; images then fit into a square of the
            longest of short_sides, times the factor, and are cut to it
        photometric: whether to distort colours
        copy_paste: share of the images that objects of rare classes are pasted into; needs masks
        short_side: length of the shorter side in evaluation
        mean: mean of the normalisation, every band in 0 … 1; ImageNet's when not given
        std: deviation of the normalisation; ImageNet's when not given
    """

    short_sides: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    max_side: int | None = 1333
    flip: float = 0.5
    jitter: tuple[float, float] | None = None
    photometric: bool = False
    copy_paste: float = 0.0
    short_side: int = 800
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.short_sides:
            raise ConfigError("augmentation.short_sides is empty", fix="give at least one length")
        for side in (*self.short_sides, self.max_side, self.short_side):
            positive("augmentation.short_sides, max_side and short_side", side)
        within("augmentation.flip", self.flip, 0, 1)
        within("augmentation.copy_paste", self.copy_paste, 0, 1)
        if self.jitter is not None and not 0 < self.jitter[0] <= self.jitter[1]:
            raise ConfigError(
                f"augmentation.jitter is {list(self.jitter)}", fix="give the smallest factor > 0, then the largest"
            )


@dataclass
class BackboneConfig(Section):
    """The image network under the feature pyramid.

    Args:
        name: torchvision/NAME, mit_b0 … mit_b5, any hierarchical model of timm, or the dotted path of your own encoder
            [torchvision/resnet50; of transformers:SOURCE its own]
        options: options of the network and of the pyramid, next to its name: {name: mit_b0, weights: FILE, channels: 256}
    """

    quick: ClassVar[bool] = False

    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def component(cls, values: Mapping[str, Any]) -> Chosen:
        """See ``Section``."""
        from longtail.detection.backbones.pyramid import build_backbone

        return Chosen(build_backbone, f"backbone {values['name']!r}", ("name",))


@dataclass
class DetectorConfig(Section):
    """The detector that the method makes long-tail aware.

    Args:
        name: cascade (Cascade R-CNN), htc (Hybrid Task Cascade), torchvision:NAME (fasterrcnn_resnet50_fpn,
            maskrcnn_resnet50_fpn … with its box head in every stage), or transformers:SOURCE, where SOURCE is a model type
            (rt_detr, rt_detr_v2, d_fine, deformable_detr, detr, conditional_detr, mask2former, maskformer), a folder with
            a config.json, or a name of the Hub
        dialect: whose cascade: mmdetection or detectron2; of cascade and htc [mmdetection, the paper's]
        backbone: The image network under the feature pyramid
        weights: file or folder of the whole detector, or `pretrained` for SOURCE's or torchvision's; of
            transformers:SOURCE and torchvision:NAME
        ious: IoU threshold of every stage; 0.5, 0.6 … for as many stages as groups when not given
        classifier: linear, cosine (normalised) or deconfound (normalised, total direct effect); of cascade and htc [linear]
        semantic_classes: number of classes of the semantic branch; of htc
        options: options of the cascade, next to its name: {name: cascade, samples: 256}; of transformers:SOURCE fields of
            its configuration, and image_size, separate_classifiers and postprocess
    """

    name: str = "cascade"
    dialect: Literal["mmdetection", "detectron2"] | None = None
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    weights: str | None = None
    ious: tuple[float, ...] | None = None
    classifier: Literal["linear", "cosine", "deconfound"] | None = None
    semantic_classes: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        of_others = {
            "transformers": ("dialect", "ious", "classifier", "semantic_classes"),
            "torchvision": ("dialect", "classifier", "semantic_classes"),
        }
        for option in of_others.get(library_of(self.name), ()):
            if getattr(self, option) is not None:
                raise ConfigError(
                    f"model.{option} with model.name {self.name}", fix="leave it out: it is of cascade and htc"
                )
        for iou in self.ious or ():
            within("model.ious", iou, 0, 1)
        if library_of(self.name) == "torchvision" and (self.backbone.name or self.backbone.options):
            raise ConfigError(f"model.backbone with model.name {self.name}", fix="leave it out: it has its own")
        if library_of(self.name):
            if self.backbone.options and not self.backbone.name:
                raise ConfigError(
                    "options of model.backbone without its name", fix="name a backbone, or leave them out"
                )
            return
        one_of("model.name", self.name, ("cascade", "htc"))
        one_of("model.dialect", self.dialect or "mmdetection", ("mmdetection", "detectron2"))
        one_of("model.classifier", self.classifier or "linear", ("linear", "cosine", "deconfound"))
        if self.weights is not None:
            raise ConfigError(f"model.weights with model.name {self.name}", fix="give model.backbone.weights")

    @classmethod
    def component(cls, values: Mapping[str, Any]) -> Chosen:
        """See ``Section``."""
        subject = f"detector {values['name']!r}"
        if is_cascade(str(values["name"])):
            return Chosen(CascadeConfig, subject, ("num_classes", "stages"))
        from longtail.detection.queries.build import build_query_detector

        return Chosen(build_query_detector, subject, ("source", "num_classes", "backbone", "weights"))

    def settings(self, num_classes: int) -> dict[str, Any]:
        """Settings that build the detector, as ``Detector`` takes them.

        Args:
            num_classes: Number of foreground classes C.
        """
        options = dict(self.options)
        ious = {} if self.ious is None else {"ious": list(self.ious)}
        if library_of(self.name) == "torchvision":
            weights = {} if self.weights is None else {"weights": self.weights}
            return {"name": self.name, **weights, **ious, **options}
        if is_cascade(self.name):
            semantic = {} if self.semantic_classes is None else {"semantic_classes": self.semantic_classes}
            return {
                "name": self.name,
                "dialect": self.dialect or "mmdetection",
                "backbone": {**self.backbone.options, "name": self.backbone.name or "torchvision/resnet50"},
                "classifier": self.classifier or "linear",
                **ious,
                **semantic,
                **options,
            }
        from longtail.detection.queries.build import source_settings

        backbone = self.backbone.to_dict() if self.backbone.name else None
        return source_settings(self.name.partition(":")[2], num_classes, options, self.weights, backbone)


@dataclass
class DetectionEvaluationConfig:
    """How weights are validated and the run is scored.

    Args:
        batch_size: images at a time
        metric: what the best weights are chosen by
        groups: by which groups to score: those of training; those of the annotation file (LVIS); standard: rare, common
            and frequent (at 10 and 100 training instances), whatever the groups of training; the file's go before standard
            and auto, which else means training's, where it is federated
        readouts: ways to read the stages that the run is scored with; all when not given
        scales: sizes at which the run is scored, factors on the input's; several average out (test-time augmentation)
        flip: score the run with every image seen mirrored, too (test-time augmentation)
        max_detections: limit an image where federated (300 when not given), else an image and class (100)
        pictures: number of images written for the report
    """

    batch_size: int = 1
    metric: Literal["AP", "AP50", "mask_AP", "mask_AP50"] = "AP"
    groups: EvaluationGroups = "auto"
    readouts: list[str] | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    max_detections: int | None = None
    pictures: int = 6

    def __post_init__(self) -> None:
        positive("evaluation.batch_size", self.batch_size)
        one_of("evaluation.metric", self.metric, ("AP", "AP50", "mask_AP", "mask_AP50"))
        one_of("evaluation.groups", self.groups, get_args(EvaluationGroups))
        for scale in self.scales:
            positive("evaluation.scales", scale)
        not_negative("evaluation.max_detections", self.max_detections)
        not_negative("evaluation.pictures", self.pictures)


@dataclass
class DetectionConfig(RunConfig):
    """A detection run, from data to score.

    Args:
        task: always detection
        data: What to train and validate on
        augmentation: From stored images to network input
        model: The detector that the method makes long-tail aware
        method: How the detector is made long-tail aware
        evaluation: How weights are validated and the run is scored
        iterations: optimiser steps of each phase by name, such as {train: 90000}; --dry_run says how many passes
            they are
    """

    task: Literal["detection"] = "detection"
    data: DetectionDataConfig = field(default_factory=DetectionDataConfig)
    augmentation: DetectionAugmentationConfig = field(default_factory=DetectionAugmentationConfig)
    model: DetectorConfig = field(default_factory=DetectorConfig)
    method: DetectionMethodConfig = field(default_factory=MecConfig)
    evaluation: DetectionEvaluationConfig = field(default_factory=DetectionEvaluationConfig)
    optimiser: DetectionOptimiserConfig = field(default_factory=DetectionOptimiserConfig)
