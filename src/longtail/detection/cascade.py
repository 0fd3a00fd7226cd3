"""The stages of Cascade (Mask) R-CNN."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from longtail.boxes import BoxCoder, sides_at_least
from longtail.detection.calibration_head import two_level_sample
from longtail.detection.config import CascadeConfig
from longtail.detection.mask_head import MaskHead, mask_loss, mask_targets, mean_probabilities
from longtail.detection.method import StageOutputs
from longtail.detection.stage import (
    BoxStage,
    ClassifierFactory,
    LinearClassifier,
    PyramidPooler,
    StageLosses,
    box_loss,
    class_loss,
)
from longtail.detection.targets import Objects, Samples, relabel_stage, sample_stage
from longtail.errors import DataError
from longtail.losses.base import start_bias
from longtail.shapes import Losses

_BOX_SIDE, _MASK_SIDE = 7, 14
_SMALLEST_PROPOSAL = 1e-3


class Pyramid(NamedTuple):
    """Feature maps of a batch.

    Attributes:
        levels: Finest first; the last may be for proposals only.
        semantic: Features of a semantic branch that are added to what is pooled, or None.
        semantic_logits: Its logits, or None.
    """

    levels: Sequence[Tensor]
    semantic: Tensor | None = None
    semantic_logits: Tensor | None = None


class Cascade(nn.Module):
    """The stages of Cascade (Mask) R-CNN, without backbone, proposals and post-processing.

    Each stage learns from the boxes that the one before refined.

    Args:
        config: Settings.
        channels: Channels of every pyramid level.
        strides: Stride of every level that boxes are pooled from.
        losses: Classification losses of the stages.
        classifier: Builds the classifier of a stage.

    Source: Cascade R-CNN (Cai 2018); MEC §3.1.
    """

    #: Whether mask heads learn from boxes that their own stage has refined, and read the features of the mask head before.
    interleaved = False

    def __init__(
        self,
        config: CascadeConfig,
        channels: int,
        strides: Sequence[int],
        losses: StageLosses,
        classifier: ClassifierFactory = LinearClassifier,
    ) -> None:
        super().__init__()
        self.config = config
        self.class_losses = losses
        #: (C,) sampled foreground boxes of every class, for each stage of the last ``losses``.
        self.positives: dict[int, Tensor] = {}
        pooling: tuple[Any, ...] = (strides, config.pooling_samples, config.pooling_aligned)
        self.box_pooler = PyramidPooler(_BOX_SIDE, *pooling)
        self.mask_pooler = PyramidPooler(_MASK_SIDE, *pooling)
        self.coders = [BoxCoder(stage.box_stds) for stage in config.stages]
        self.stages = nn.ModuleList(
            BoxStage(channels * _BOX_SIDE**2, config.head_channels, losses.num_logits, classifier)
            for _ in config.stages
        )
        for k, stage in enumerate(self.box_stages):
            start_bias(stage.classifier, losses.loss(k))
        sizes = (channels, config.mask_channels, config.mask_convolutions, config.num_classes)
        number = {"every_stage": config.num_stages, "single": 1, "none": 0}[config.masks]
        self.mask_heads = nn.ModuleList(MaskHead(*sizes, self.interleaved and k > 0) for k in range(number))

    @property
    def box_stages(self) -> list[BoxStage]:
        """The stages."""
        return [cast(BoxStage, stage) for stage in self.stages]

    def embed(self, levels: Sequence[Float[Tensor, "n c _ _"]]) -> Pyramid:
        """Feature maps that the stages pool from."""
        return Pyramid(levels)

    def losses(
        self,
        pyramid: Pyramid,
        proposals: Sequence[Tensor],
        objects: Sequence[Objects],
        sizes: Sequence[tuple[int, int]],
        with_masks: bool = True,
    ) -> Losses:
        """Weighted losses of all stages.

        Args:
            pyramid: Features of the batch.
            proposals: Boxes (R_i, 4) of every image.
            objects: Annotations of every image.
            sizes: (height, width) of every image before padding.
            with_masks: Whether the mask heads are trained.
        """
        losses: dict[str, Tensor] = {}
        samples = sample_stage(proposals, objects, self.config, 0)
        for stage, setting in enumerate(self.config.stages):
            found, deltas = self.box_losses(stage, pyramid, samples, objects)
            losses |= found
            boxes = self.refine(stage, samples, deltas, sizes)
            if with_masks and stage < len(self.mask_heads):
                learned = self.next_samples(stage, boxes, objects) if self.interleaved else samples
                losses[f"stage_{stage + 1}_mask"] = setting.weight * self._mask_loss(stage, pyramid, learned, objects)
            if stage + 1 < self.config.num_stages:
                samples = self.next_samples(stage + 1, boxes, objects)
        return losses

    def _mask_loss(self, stage: int, pyramid: Pyramid, samples: Samples, objects: Sequence[Objects]) -> Tensor:
        boxes, labels, targets = foreground_masks(samples, objects, self.config.num_classes)
        features = self._mask_features(self.pool_masks(pyramid, boxes), stage)
        return mask_loss(cast(MaskHead, self.mask_heads[stage]).class_logits(features, labels), targets)

    def _mask_features(self, pooled: Float[Tensor, "r c s s"], stage: int) -> Float[Tensor, "r d s s"]:
        head = cast(MaskHead, self.mask_heads[stage])
        return head(pooled, None if head.from_previous is None else self._mask_features(pooled, stage - 1))

    def mask_logits(
        self, pyramid: Pyramid, boxes: Sequence[Tensor], labels: Int[Tensor, " q"], rows: Int[Tensor, " q"]
    ) -> list[Float[Tensor, "q t t"]]:
        """Mask logits of each stage, for a label of each of the ``rows`` of the boxes of all images together."""
        pooled, features, logits = self.pool_masks(pyramid, boxes), None, []
        for head in self.mask_heads:
            features = head(pooled, features)
            logits.append(cast(MaskHead, head).class_logits(features, labels, rows))
        return logits

    def stage_outputs(
        self, pyramid: Pyramid, proposals: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[StageOutputs]:
        """Logits of every stage, each on the boxes that the stage before refined, and the final boxes."""
        counts = [len(p) for p in proposals]
        boxes, outputs = list(proposals), []
        for k in range(self.config.num_stages):
            logits, deltas = self.stages[k](self.pool_boxes(pyramid, boxes))
            outputs.append(logits)
            boxes = self._decode(k, deltas, boxes, sizes)
        images = zip(torch.stack(outputs).split(counts, dim=1), boxes, sizes, strict=True)
        return [StageOutputs(*image) for image in images]

    @torch.no_grad()
    def mask_probabilities(
        self, pyramid: Pyramid, boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> list[Float[Tensor, "_ t t"]]:
        """Mask probabilities of every image's detections, a bounded number at a time."""
        chunk, side = self.config.postprocess.mask_chunk, 2 * _MASK_SIDE
        results = []
        for image, (image_boxes, image_labels) in enumerate(zip(boxes, labels, strict=True)):
            maps = image_boxes.new_zeros(len(image_boxes), side, side)
            # the rows of a box that is found as several classes come together, so that its features are computed once
            order = image_boxes.unique(dim=0, return_inverse=True)[1].argsort() if len(image_boxes) else image_labels
            for part in order.split(chunk):
                distinct, rows = image_boxes[part].unique(dim=0, return_inverse=True)
                alone = [b[:0] if i != image else distinct for i, b in enumerate(boxes)]
                maps[part] = mean_probabilities(self.mask_logits(pyramid, alone, image_labels[part], rows))
            results.append(maps)
        return results

    def pool_boxes(self, pyramid: Pyramid, boxes: Sequence[Tensor]) -> Float[Tensor, "r c s s"]:
        """Pooled features for the box heads."""
        return self.box_pooler(pyramid.levels, boxes)

    def pool_masks(self, pyramid: Pyramid, boxes: Sequence[Tensor]) -> Float[Tensor, "r c s s"]:
        """Pooled features for the mask heads."""
        return self.mask_pooler(pyramid.levels, boxes)

    def box_losses(
        self, stage: int, pyramid: Pyramid, samples: Samples, objects: Sequence[Objects]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "r 4"]]:
        """Weighted losses of the box head of a stage, and the box changes that it predicts."""
        pooled = scale_gradient(self.pool_boxes(pyramid, samples.boxes), self.config.gradient_scale)
        labels = torch.cat(samples.labels)
        logits, deltas = self.stages[stage](pooled, labels != self.config.num_classes)
        matched = torch.cat(
            [
                image.boxes[index] if len(image.boxes) else boxes
                for image, index, boxes in zip(objects, samples.matched, samples.boxes, strict=True)
            ]
        )
        foreground = torch.where(labels != self.config.num_classes)[0]
        self.positives[stage] = torch.zeros(self.config.num_classes, device=labels.device).index_add_(
            0, labels[foreground], torch.ones_like(foreground, dtype=torch.float32)
        )
        boxes = torch.cat(samples.boxes)
        learned = two_level_sample(samples.labels, objects, self.config.num_classes)
        rows = slice(None) if learned is None else learned
        losses = {
            f"stage_{stage + 1}_class": class_loss(self.class_losses.loss(stage), logits[rows], labels[rows]),
            f"stage_{stage + 1}_box": box_loss(
                deltas, boxes, matched, foreground, self.coders[stage], self.config.box_beta
            ),
        }
        weight = self.config.stages[stage].weight
        return {name: weight * value for name, value in losses.items()}, deltas

    def refine(
        self, stage: int, samples: Samples, deltas: Float[Tensor, "r 4"], sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Boxes for the next stage, without gradient: refined, clipped, never empty. Added objects are left out
        where the next stage adds them again."""
        refined = self._decode(stage, deltas.detach(), samples.boxes, sizes)
        kept = [sides_at_least(boxes, _SMALLEST_PROPOSAL) for boxes in refined]
        if self.config.resample:
            kept = [keep & ~added for keep, added in zip(kept, samples.added, strict=True)]
        return [boxes[keep] for boxes, keep in zip(refined, kept, strict=True)]

    def next_samples(self, stage: int, boxes: Sequence[Tensor], objects: Sequence[Objects]) -> Samples:
        """Training boxes of a stage after a refinement: a new sample, or all boxes with new labels."""
        draw = sample_stage if self.config.resample else relabel_stage
        return draw(boxes, objects, self.config, stage)

    def _decode(
        self, stage: int, deltas: Tensor, boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        refined = self.coders[stage].decode(deltas, torch.cat(list(boxes))).split([len(b) for b in boxes])
        return [clip_boxes_to_image(b, size) for b, size in zip(refined, sizes, strict=True)]


def foreground_masks(
    samples: Samples, objects: Sequence[Objects], background: int
) -> tuple[list[Tensor], Int[Tensor, " p"], Float[Tensor, "p t t"]]:
    """Foreground boxes of every image, and the labels and mask targets of all.

    Raises:
        DataError: An image has objects without masks.
    """
    boxes, labels, targets = [], [], []
    columns = (objects, samples.boxes, samples.labels, samples.matched)
    for image, proposals, label, matched in zip(*columns, strict=True):
        chosen = torch.where(label != background)[0]
        if len(image.boxes) and image.masks is None:
            raise DataError(
                f"an image with {len(image.boxes)} objects has no masks",
                fix="give masks, or build the detector without masks (masks='none')",
            )
        side = 2 * _MASK_SIDE
        boxes.append(proposals[chosen])
        labels.append(label[chosen])
        if image.masks is None or len(chosen) == 0:
            targets.append(proposals.new_zeros(0, side, side))
        else:
            targets.append(mask_targets(image.masks, boxes[-1], matched[chosen], side))
    return boxes, torch.cat(labels), torch.cat(targets)


def scale_gradient(values: Float[Tensor, "*shape"], factor: float) -> Float[Tensor, "*shape"]:
    """The values themselves; their gradient times ``factor``."""
    if factor == 1.0 or not values.requires_grad:
        return values
    scaled = values.view_as(values)
    scaled.register_hook(lambda gradient: gradient * factor)
    return scaled
