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
from longtail.training.config import RunConfig, not_negative, positive, within
from longtail.training.data_config import ClassGroupsConfig, DataSection


@dataclass
class GroupsConfig(ClassGroupsConfig):
    """How the classes are put into groups, most frequent first.

    Args:
        by: share of labelled pixels (MEDOE's), rank, cumulative mass, or explicit lists of class ids
        thresholds: descending shares that part the groups; of by = share
    """

    ways: ClassVar[tuple[str, ...]] = ("share", "rank", "mass", "explicit")

    by: Literal["share", "rank", "mass", "explicit"] = "share"
    thresholds: tuple[float, ...] = (0.01, 0.001)


@dataclass
class DataConfig(DataSection):
    """What to train and validate on.

    Args:
        dataset: folder, cityscapes:ROOT, ade20k:ROOT, longtail-scenes, or the dotted path of your own class
        options: options of the data set, next to these settings: {dataset: PATH, image_dir: photos}
        groups: How the classes are put into groups
    """

    task: ClassVar[Task] = "segmentation"

    groups: GroupsConfig = field(default_factory=GroupsConfig)


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
