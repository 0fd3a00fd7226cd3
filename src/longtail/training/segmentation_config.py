"""Settings of a segmentation run. This module does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from longtail.components import Spec
from longtail.datasets.open import Task
from longtail.errors import ConfigError
from longtail.models.segmentation_methods.base import SegmentationMethodConfig
from longtail.models.segmentation_methods.medoe import MedoeConfig
from longtail.settings import Chosen, Section, one_of
from longtail.training.config import DataSection, RunConfig, SamplingConfig, not_negative, positive, within


@dataclass
class GroupsConfig:
    """How the classes are put into groups, most frequent first.

    Args:
        by: share of labelled pixels (MEDOE's), rank, cumulative mass, or explicit lists of class ids
        thresholds: descending shares that part the groups; of by = share
        sizes: number of classes of each group; of by = rank
        masses: ascending cumulative shares; of by = mass
        members: group name to class ids; of by = explicit
    """

    by: Literal["share", "rank", "mass", "explicit"] = "share"
    thresholds: tuple[float, ...] = (0.01, 0.001)
    sizes: tuple[int, ...] = ()
    masses: tuple[float, ...] = (0.8, 0.95)
    members: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("data.groups.by", self.by, ("share", "rank", "mass", "explicit"))
        if self.by == "rank" and not self.sizes:
            raise ConfigError("data.groups.by is rank without sizes", fix="give data.groups.sizes, such as [4, 4, 11]")
        if self.by == "explicit" and not self.members:
            raise ConfigError(
                "data.groups.by is explicit without members",
                fix="give data.groups.members, such as {head: [0, 1], tail: [2]}",
            )


@dataclass
class DataConfig(DataSection):
    """What to train and validate on.

    Args:
        dataset: folder, cityscapes:ROOT, ade20k:ROOT, longtail-scenes, or the dotted path of your own class
        train_split: split to train on
        val_split: split that chooses the best weights; none when empty
        options: options of the data set, next to these settings: {dataset: PATH, image_dir: photos}
        val_share: share of the images that is val, where the data have no splits [0.2]
        split_by: pattern that keeps images together there, such as 'video_(\\d+)': a video is never on both sides
        bands: number of bands of the photographs, or the numbers of those to take, from 0; RGB when not given
        value_range: values that become 0 and 1, for all images (`longtail count --images`); bytes when not given
        pages: whether files of several pages are refused, or their pages are bands
        frequency: file of class frequencies (`longtail count`); the training split is counted when not given
        groups: How the classes are put into groups
        sampling: Which images a pass over the training data shows, and how often
        limit: use only that many images of each split
    """

    task: ClassVar[Task] = "segmentation"

    dataset: str = ""
    train_split: str = "train"
    val_split: str = "val"
    options: dict[str, Any] = field(default_factory=dict)
    val_share: float | None = None
    split_by: str | None = None
    bands: int | tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    pages: Literal["refuse", "bands"] = "refuse"
    frequency: str | None = None
    groups: GroupsConfig = field(default_factory=GroupsConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    limit: int | None = None

    def __post_init__(self) -> None:
        positive("data.limit", self.limit)


@dataclass
class AugmentationConfig:
    """From stored images to network input.

    Args:
        crop: height and width of training crops
        scale: smallest and largest random scale
        cat_max_ratio: largest share of one class in a crop
        short_side: length to which the shorter side of every image is first brought, in training and evaluation
            (ADE20K 512); as stored when not given. Labels are always scored at their own size
        max_side: upper limit of the longer side where short_side is given (ADE20K 2048)
        eval_size: height and width to which every image is brought in evaluation and prediction, whatever its ratio, in
            the place of short_side and max_side
        flip: probability of a horizontal flip
        photometric: whether colours are distorted in training
        mean: mean of the normalisation, every band in 0 … 1; ImageNet's when not given
        std: deviation of the normalisation; ImageNet's when not given
    """

    crop: tuple[int, int] = (512, 512)
    scale: tuple[float, float] = (0.5, 2.0)
    cat_max_ratio: float = 0.75
    short_side: int | None = None
    max_side: int | None = None
    eval_size: tuple[int, int] | None = None
    flip: float = 0.5
    photometric: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for side in (*self.crop, self.short_side, self.max_side, *(self.eval_size or ())):
            positive("augmentation.crop, short_side, max_side and eval_size", side)
        within("augmentation.cat_max_ratio", self.cat_max_ratio, 0, 1)
        within("augmentation.flip", self.flip, 0, 1)
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(
                f"augmentation.scale is {list(self.scale)}", fix="give the smallest scale > 0, then the largest"
            )


@dataclass
class ModelConfig(Section):
    """The encoder-decoder model that the method wraps.

    Args:
        name: named model (see `longtail info`), or the dotted path of your own builder
        weights: file of encoder weights, or `pretrained` for the published ones; random when not given
        classifier: linear, cosine or deconfound, or with options as {name: cosine, temperature: 30}
        options: options of the model, next to its name: {name: pspnet, encoder: resnet101c}
    """

    quick: ClassVar[bool] = False

    name: str = "deeplabv3plus"
    weights: str | None = None
    classifier: Spec = "linear"
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def component(cls, values: Mapping[str, Any]) -> Chosen:
        """See ``Section``."""
        from longtail.segmentation.models import NETWORKS

        return NETWORKS.choose(str(values["name"]))


@dataclass
class EvaluationConfig:
    """How weights are validated and the run is scored.

    Args:
        batch_size: images at a time; more than 1 only helps where all images have one size
        sliding_window: height and width of windows; the whole image at once when not given
        stride: step of the windows; two thirds of them when not given
        pictures: number of images written for the report
        taus: other values of tau to score, from 0: of the nested chain, or of a baseline's logit adjustment; larger ones
            give rare classes more pixels
    """

    batch_size: int = 1
    sliding_window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    pictures: int = 6
    taus: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for tau in self.taus:
            not_negative("evaluation.taus", tau)
        positive("evaluation.batch_size", self.batch_size)
        not_negative("evaluation.pictures", self.pictures)
        for side in (*(self.sliding_window or ()), *(self.stride or ())):
            positive("evaluation.sliding_window and stride", side)


@dataclass
class CacheConfig:
    """Features of a frozen encoder, computed once and kept on disk.

    Args:
        views: augmented views of every image that are kept, such as 10; 0 computes features at every step
        folder: where to keep them, such as one folder for several runs; features in the run folder when not given
    """

    views: int = 0
    folder: str | None = None

    def __post_init__(self) -> None:
        not_negative("cache.views", self.views)


@dataclass
class SegmentationConfig(RunConfig):
    """A segmentation run, from data to score.

    Args:
        task: always segmentation
        data: What to train and validate on
        augmentation: From stored images to network input
        model: The encoder-decoder model that the method wraps
        method: How the model is made long-tail aware
        evaluation: How weights are validated and the run is scored
        optimiser: Optimiser and learning-rate schedule of every phase
        phase_optimisers: differences of single phases, such as {experts: {lr: 0.02}}; the phase ensemble has the sgd
            recipe where it is not named
        iterations: optimiser steps of each phase by name [80000; ensemble 1600]
        epochs: length of a phase in passes over the training data instead, such as {train: 12}
        loading: How samples become batches
        hardware: Where and in what precision to compute
        logging: What is written while training
        monitor: What the best weights are chosen by, and when a phase ends before its time
        train_only: classifier, to train the classifier of a finished model alone (see --from), in one phase of that name
        reset_classifier: begin that classifier with random weights instead of the finished model's
        seed: seed of everything random in the run
        freeze: part of a finished model (see --from) that stays as it is: encoder, or encoder+expert_1, which also keeps
            the finished model's decoder as the first expert
        cache: Features of a frozen encoder, computed once and kept on disk
    """

    task: Literal["segmentation"] = "segmentation"
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: SegmentationMethodConfig = field(default_factory=MedoeConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    freeze: Literal["encoder", "encoder+expert_1"] | None = None
    cache: CacheConfig = field(default_factory=CacheConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cache.views and self.freeze is None:
            raise ConfigError("cache.views without a frozen encoder", fix="set freeze to encoder, or cache.views to 0")
        if self.cache.views and self.data.sampling.name == "rare_class":
            raise ConfigError(
                "cache.views with crops that are drawn for a class (data.sampling.name rare_class)",
                fix="set data.sampling.name to class_aware, or cache.views to 0",
            )
        if self.freeze is not None:
            one_of("freeze", self.freeze, ("encoder", "encoder+expert_1"))
