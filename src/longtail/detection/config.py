"""Settings of the cascade detectors. This module does not import torch, so that command lines start quickly."""

from dataclasses import dataclass, field
from typing import Any, Literal

from longtail.errors import ConfigError
from longtail.settings import check_fields, from_dict

BoxStds = tuple[float, float, float, float]
_FIRST_STDS: BoxStds = (0.1, 0.1, 0.2, 0.2)


@dataclass(frozen=True)
class StageConfig:
    """One stage of a cascade.

    Args:
        iou: A proposal that overlaps an object at least this much is of its class, any other is background.
        box_stds: Standard deviations by which regression targets (dx, dy, dw, dh) are divided.
        weight: Weight of all losses of the stage.
    """

    iou: float
    box_stds: BoxStds
    weight: float = 1.0


def library_of(name: str) -> str:
    """Library that a detector of that name is of: transformers, torchvision; empty for this one's own."""
    library, _, source = name.partition(":")
    return library if source else ""


def is_cascade(name: str) -> bool:
    """Whether a detector of that name has the stages of a cascade, with IoU thresholds."""
    return library_of(name) != "transformers"


def stages(
    ious: tuple[float, ...] = (0.5, 0.6, 0.7), weights: tuple[float, ...] | None = None
) -> tuple[StageConfig, ...]:
    """Stages with the usual deviations: those of stage k are the first stage's divided by k.

    Args:
        ious: IoU threshold of every stage; (0.5, 0.6, 0.7, 0.8) for four.
        weights: Loss weight of every stage; None for 1, 1/2, 1/4, …

    Source: Cascade R-CNN (Cai 2018); SPEC C4, C6 (the fourth threshold is not in the paper: 0.8).
    """
    weights = weights or tuple(0.5**k for k in range(len(ious)))
    if len(weights) != len(ious):
        raise ConfigError(f"stage weights {weights} for thresholds {ious}", fix="give one weight for each stage")
    d = _FIRST_STDS
    return tuple(
        StageConfig(iou, (d[0] / k, d[1] / k, d[2] / k, d[3] / k), weight)
        for k, (iou, weight) in enumerate(zip(ious, weights, strict=True), start=1)
    )


@dataclass(frozen=True)
class ProposalConfig:
    """The region proposal network.

    Args:
        anchor_sizes: Side of the square anchor of each pyramid level, in pixels.
        aspect_ratios: Height / width of the anchors of every position.
        foreground_iou: Anchors that overlap an object at least this much are positive.
        background_iou: Anchors that overlap every object less than this are negative.
        samples: Anchors sampled per image for the loss.
        positive_fraction: Largest part of them that is positive.
        candidates_train: Best anchors of each level before non-maximum suppression, in training.
        candidates_test: The same in inference.
        kept_train: Proposals per image after it, in training.
        kept_test: The same in inference.
        nms_iou: Overlap above which the lower-scored proposal is dropped.
    """

    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    foreground_iou: float = 0.7
    background_iou: float = 0.3
    samples: int = 256
    positive_fraction: float = 0.5
    candidates_train: int = 2000
    candidates_test: int = 1000
    kept_train: int = 2000
    kept_test: int = 1000
    nms_iou: float = 0.7


@dataclass(frozen=True)
class PostprocessConfig:
    """From class probabilities and boxes to detections. The defaults are LVIS's; COCO's are 0.05 and 100.

    Args:
        score_threshold: Only scores above it count.
        nms_iou: Overlap above which the lower-scored box (of the same class) is dropped; 1 for no suppression, as DETR.
        max_detections: Best detections kept per image, over all classes; 0 for all.
        class_agnostic_nms: Let boxes of different classes suppress each other.
        best_class_only: Let each box be of its best class alone.
        min_size: Boxes with a side below this many pixels are dropped.
        mask_threshold: Pixels of at least this mask probability belong to the object.
        mask_chunk: Masks predicted at a time; bounds the memory.
    """

    score_threshold: float = 1e-4
    nms_iou: float = 0.5
    max_detections: int = 300
    class_agnostic_nms: bool = False
    best_class_only: bool = False
    min_size: float = 1e-2
    mask_threshold: float = 0.5
    mask_chunk: int = 100


@dataclass(frozen=True)
class CascadeConfig:
    """A cascade detector. The two known dialects are presets of it: ``mmdetection()`` and ``detectron2()``.

    Args:
        num_classes: Number of foreground classes C; label C is the background.
        stages: The stages, in order.
        resample: Each stage samples again among the refined boxes of the stage before and the objects; otherwise the
            first stage's sample is kept and only its labels are refreshed.
        samples: Proposals sampled per image.
        positive_fraction: Largest part of them that is foreground.
        crowd_overlap: Proposals and anchors with at least this part of their area in a crowd region are no negatives.
        box_beta: Where the smooth L1 loss of the boxes turns from quadratic to linear; 0 for L1.
        gradient_scale: Factor on the gradient that each stage sends into the pooled box features.
        average: Values that the plain ensemble of the stages averages.
        masks: A mask head in every stage, one trained on the first stage's sample, or none.
        pooling_samples: RoIAlign samples per bin and axis; 0 for as many as the bin has cells.
        pooling_aligned: RoIAlign with the half-pixel shift.
        head_channels: Width of the two fully connected layers of a stage.
        mask_channels: Width of the mask heads.
        mask_convolutions: Number of 3x3 convolutions of a mask head.
        proposals: The region proposal network.
        postprocess: Thresholds of inference.
        size_divisor: Batches are padded to multiples of this.
    """

    num_classes: int
    stages: tuple[StageConfig, ...] = field(default_factory=stages)
    resample: bool = True
    samples: int = 512
    positive_fraction: float = 0.25
    crowd_overlap: float = 0.5
    box_beta: float = 1.0
    gradient_scale: float = 1.0
    average: Literal["logits", "probabilities"] = "logits"
    masks: Literal["every_stage", "single", "none"] = "every_stage"
    pooling_samples: int = 0
    pooling_aligned: bool = True
    head_channels: int = 1024
    mask_channels: int = 256
    mask_convolutions: int = 4
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    size_divisor: int = 32

    def __post_init__(self) -> None:
        check_fields(self)
        if self.num_classes < 1 or not self.stages:
            raise ConfigError(
                f"a cascade of {len(self.stages)} stages for {self.num_classes} classes",
                fix="give at least one stage and one foreground class",
            )
        if not 0 < self.positive_fraction <= 1 or self.samples < 1:
            raise ConfigError(
                f"cannot sample {self.samples} proposals, {self.positive_fraction} of them foreground",
                fix="give samples >= 1 and 0 < positive_fraction <= 1",
            )

    @property
    def num_stages(self) -> int:
        """Number of stages, N."""
        return len(self.stages)

    @classmethod
    def mmdetection(
        cls, num_classes: int, ious: tuple[float, ...] = (0.5, 0.6, 0.7), **changes: Any
    ) -> "CascadeConfig":
        """MMDetection's dialect, the one that the MEC paper used: every stage samples again with the objects added,
        stage losses weigh 1, 1/2, 1/4, logits are averaged, every stage has a mask head.

        Args:
            num_classes: Number of foreground classes C.
            ious: IoU threshold of every stage.
            **changes: Fields of this class to set otherwise; nested ones as dataclasses or dicts.
        """
        return from_dict(cls, {"num_classes": num_classes, "stages": stages(ious), **changes})

    @classmethod
    def detectron2(cls, num_classes: int, ious: tuple[float, ...] = (0.5, 0.6, 0.7), **changes: Any) -> "CascadeConfig":
        """Detectron2's dialect: labels are refreshed without sampling again, stage losses weigh 1 and send 1/N of
        their gradient into the box features, L1 box loss, probabilities are averaged, one mask head.

        Args:
            num_classes: Number of foreground classes C.
            ious: IoU threshold of every stage.
            **changes: Fields of this class to set otherwise; nested ones as dataclasses or dicts.
        """
        dialect = {
            "stages": stages(ious, (1.0,) * len(ious)),
            "resample": False,
            "box_beta": 0.0,
            "gradient_scale": 1.0 / len(ious),
            "average": "probabilities",
            "masks": "single",
        }
        return from_dict(cls, {"num_classes": num_classes, **dialect, **changes})
