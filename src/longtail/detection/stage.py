"""One stage of a cascade: boxes -> pooled features -> class logits and box changes, and the losses of both."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchvision.ops import roi_align

from longtail.boxes import BoxCoder
from longtail.classifiers.cosine import CosineClassifier
from longtail.classifiers.deconfound import DeconfoundClassifier
from longtail.detection.calibration_head import CalibrationHead
from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss
from longtail.shapes import Scalar

#: A classification loss of one stage: a ``ClassificationLoss`` for C+1 classes, or any callable
#: ``(logits (R, num_logits), labels (R,)) -> scalar``. ``num_logits`` (default C+1) and
#: ``probabilities(logits) -> (R, C+1)`` (default softmax) are taken from it where it has them.
StageLoss = Callable[[Tensor, Tensor], Tensor]
#: Builds a classifier from its numbers of inputs and outputs. One that has ``observe(features, foreground)`` is shown
#: the training features (R, inputs) and which of them show an object, (R,), in every step.
ClassifierFactory = Callable[[int, int], nn.Module]
#: A box of this side, in pixels, is pooled from a level of stride 4; each doubling goes one level up.
_SIDE_AT_STRIDE_4 = 56.0


class PyramidPooler(nn.Module):
    """Pools boxes from the pyramid level that fits their size.

    Strides are given, not inferred from the batch, so that a box is pooled alike whatever it is batched with.

    Args:
        output_size: Side of the pooled map.
        strides: Stride of the levels to pool from, finest first, each twice the one before.
        samples: Sampling points per bin and axis; 0 for as many as the bin has cells.
        aligned: Shift by half a pixel, so that neighbouring boxes are treated alike.

    Source: FPN (Lin 2017), Eq. 1.
    """

    def __init__(self, output_size: int, strides: Sequence[int], samples: int = 0, aligned: bool = True) -> None:
        super().__init__()
        self.output_size = output_size
        self.strides = tuple(strides)
        self.samples = samples
        self.aligned = aligned

    def forward(
        self, features: Sequence[Float[Tensor, "n c _ _"]], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> Float[Tensor, "r c s s"]:
        """Pooled features of all boxes, image after image.

        Args:
            features: At least as many levels as strides; the levels after them are not used.
            boxes: Boxes of every image, xyxy in pixels of the network's input.
        """
        rois = as_rois(boxes)
        levels = self.levels(rois[:, 1:])
        pooled = features[0].new_zeros(len(rois), features[0].shape[1], self.output_size, self.output_size)
        for level, stride in enumerate(self.strides):
            chosen = torch.where(levels == level)[0]
            values = pool(features[level], rois[chosen], self.output_size, stride, self.samples, self.aligned)
            pooled[chosen] = values.to(pooled.dtype)
        return pooled

    def levels(self, boxes: Float[Tensor, "r 4"]) -> Int[Tensor, " r"]:
        """Index of the level of each box."""
        side = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()
        finest = _SIDE_AT_STRIDE_4 * self.strides[0] / 4
        level = torch.floor(torch.log2(side / finest) + 1e-6)
        return level.clamp(0, len(self.strides) - 1).to(torch.int64)


def as_rois(boxes: Sequence[Float[Tensor, "_ 4"]]) -> Float[Tensor, "r 5"]:
    """Boxes of all images in one tensor, each with the index of its image in front."""
    indexed = [torch.cat([b.new_full((len(b), 1), float(i)), b], dim=1) for i, b in enumerate(boxes)]
    return torch.cat(indexed)


def pool(
    level: Float[Tensor, "n c h w"],
    rois: Float[Tensor, "r 5"],
    size: int,
    stride: int,
    samples: int = 0,
    aligned: bool = True,
) -> Float[Tensor, "r c s s"]:
    """RoIAlign of one level, in float32."""
    return roi_align(level.float(), rois.float(), (size, size), 1.0 / stride, samples or -1, aligned)


class LinearClassifier(nn.Linear):
    """Linear classifier with small initial weights, as detectors start.

    Args:
        in_features: Width of the features.
        num_logits: Number of outputs.
    """

    def __init__(self, in_features: int, num_logits: int) -> None:
        super().__init__(in_features, num_logits)
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)


CLASSIFIERS: dict[str, ClassifierFactory] = {
    "linear": LinearClassifier,
    "cosine": CosineClassifier,
    "deconfound": DeconfoundClassifier,
}


class BoxStage(nn.Module):
    """Two shared fully connected layers, a classifier, and one box for all classes.

    Args:
        in_features: Number of values of a pooled map (channels x side x side).
        channels: Width of the shared layers.
        num_logits: Number of outputs of the classifier.
        classifier: Builds the classifier.
    """

    def __init__(
        self,
        in_features: int,
        channels: int,
        num_logits: int,
        classifier: ClassifierFactory = LinearClassifier,
    ) -> None:
        super().__init__()
        self.shared = nn.Sequential(
            nn.Flatten(), nn.Linear(in_features, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU()
        )
        self.classifier = classifier(channels, num_logits)
        self.regressor = nn.Linear(channels, 4)
        self.calibration: CalibrationHead | None = None
        for layer in self.shared:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.regressor.weight, std=0.001)
        nn.init.zeros_(self.regressor.bias)

    def forward(
        self, pooled: Float[Tensor, "r c s s"], foreground: Bool[Tensor, " r"] | None = None
    ) -> tuple[Float[Tensor, "r logits"], Float[Tensor, "r 4"]]:
        """Class logits, those of a calibration head last, and box changes, in float32.

        Args:
            pooled: Features of the boxes.
            foreground: Which boxes show an object; given in training, for classifiers that keep count of them.
        """
        shared = self.shared(pooled)
        observe = getattr(self.classifier, "observe", None)
        if observe is not None and foreground is not None and self.training:
            observe(shared.detach(), foreground)
        deltas = self.regressor(shared).float()
        logits = self.classifier(shared).float()
        if self.calibration is not None:
            logits = torch.cat([logits, self.calibration(pooled)], dim=1)
        return logits, deltas


def box_loss(
    deltas: Float[Tensor, "r 4"],
    boxes: Float[Tensor, "r 4"],
    objects: Float[Tensor, "r 4"],
    foreground: Int[Tensor, " p"],
    coder: BoxCoder,
    beta: float,
) -> Scalar:
    """Smooth L1 loss of the foreground's box changes, divided by the number of all R proposals.

    Args:
        deltas: Predicted changes.
        boxes: Proposals.
        objects: The object of every proposal; only those of the foreground are read.
        foreground: Indices of the foreground proposals.
        coder: The stage's coder.
        beta: See ``CascadeConfig.box_beta``.
    """
    wanted = coder.encode(objects[foreground], boxes[foreground])
    total = F.smooth_l1_loss(deltas[foreground], wanted, beta=beta, reduction="sum")
    return total / max(len(deltas), 1)


def class_loss(loss: StageLoss, logits: Float[Tensor, "r logits"], labels: Int[Tensor, " r"]) -> Scalar:
    """The given loss; 0 with a gradient of 0 where nothing was sampled."""
    if len(labels) or isinstance(loss, ClassificationLoss):  # these may synchronise with the other ranks
        return loss(logits, labels)
    return logits.sum() * 0


class StageLosses(nn.Module):
    """The classification losses of N stages and how each reads its logits.

    ``num_logits`` is the number of outputs that the stages' classifiers must have.

    Args:
        losses: One loss, which is copied for every stage since losses may count, or one loss per stage; None for
            cross-entropy.
        num_stages: Number of stages N.
        num_classes: Number of foreground classes C.
    """

    def __init__(self, losses: StageLoss | Sequence[StageLoss] | None, num_stages: int, num_classes: int) -> None:
        super().__init__()
        loss = F.cross_entropy if losses is None else losses
        chosen: list[Any] = (
            list(loss) if isinstance(loss, Sequence) else [copy.deepcopy(loss) for _ in range(num_stages)]
        )
        if len(chosen) != num_stages:
            raise ConfigError(f"{len(chosen)} losses for {num_stages} stages", fix="give one loss, or one per stage")
        for loss in chosen:
            if getattr(loss, "num_classes", num_classes + 1) != num_classes + 1:
                raise ConfigError(
                    f"{type(loss).__name__} is for {loss.num_classes} classes, the stage has {num_classes + 1}",
                    fix=f"build it with num_classes={num_classes + 1}: the {num_classes} classes and the background",
                )
        widths = {int(getattr(loss, "num_logits", num_classes + 1)) for loss in chosen}
        if len(widths) > 1:
            raise ConfigError(f"the stages' losses need {sorted(widths)} logits", fix="give losses of one width")
        self.num_classes = num_classes
        self.num_logits = widths.pop()
        self.modules_of_losses = nn.ModuleList(loss for loss in chosen if isinstance(loss, nn.Module))
        self._losses = chosen

    def __len__(self) -> int:
        return len(self._losses)

    def loss(self, stage: int) -> StageLoss:
        """The loss of a stage."""
        return self._losses[stage]

    def probabilities(self, stage: int, logits: Float[Tensor, "r logits"]) -> Float[Tensor, "r classes"]:
        """Probabilities (R, C+1) of the logits of a stage."""
        read = getattr(self._losses[stage], "probabilities", None)
        return logits.softmax(dim=1) if read is None else read(logits)
