"""Training targets of the stages: clean objects, assignment by overlap, sampling."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import box_iou, clip_boxes_to_image

from longtail.boxes import covered, sides_at_least
from longtail.detection.config import CascadeConfig
from longtail.detection.method import DetectionTarget
from longtail.errors import DataError

#: Objects narrower or lower than this within the image, in pixels, are no targets.
_SMALLEST_OBJECT = 1e-2
#: Label of proposals that are neither foreground nor background.
IGNORED = -1


class Objects(NamedTuple):
    """Cleaned annotations of one image.

    Attributes:
        boxes: (g, 4) float32, inside the image, of positive size.
        labels: (g,) int64 in 0 … C-1.
        crowd: (m, 4), boxes of crowd regions.
        masks: (g, h, w) bool, or None.
        semantic: (h, w) class ids of the semantic branch, or None.
        focus: Class that the image was drawn for, or None.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    masks: Tensor | None = None
    semantic: Tensor | None = None
    focus: int | None = None


class Samples(NamedTuple):
    """Training proposals of a stage; each list has one entry per image.

    Attributes:
        boxes: (R_i, 4).
        labels: (R_i,) in 0 … C, background is C.
        matched: (R_i,) index of the object that each proposal overlaps most; 0 where there is none.
        added: (R_i,) bool, whether a proposal is an annotated object itself.
    """

    boxes: list[Tensor]
    labels: list[Tensor]
    matched: list[Tensor]
    added: list[Tensor]


def clean_objects(target: DetectionTarget, size: tuple[int, int], num_classes: int, device: torch.device) -> Objects:
    """Objects of one image on the device: clipped, without those outside the image, crowd regions separate.

    Args:
        target: Annotations, see ``DetectionTarget``.
        size: (height, width) of the image, in pixels.
        num_classes: Number of foreground classes C.
        device: Where the network runs.

    Raises:
        DataError: A label is not in 0 … C-1, or there are not as many labels or masks as boxes.
    """
    boxes = torch.as_tensor(target["boxes"]).as_subclass(Tensor).reshape(-1, 4)
    boxes = clip_boxes_to_image(boxes.to(device, torch.float32), size)
    labels = target["labels"].to(device)
    masks = target.get("masks")
    crowd = target.get("crowd")
    crowd = torch.zeros(len(boxes), dtype=torch.bool) if crowd is None else crowd
    crowd = crowd.to(device, torch.bool)
    counts = {"labels": len(labels), "crowd flags": len(crowd), "masks": len(boxes) if masks is None else len(masks)}
    for name, count in counts.items():
        if count != len(boxes):
            raise DataError(f"{len(boxes)} boxes but {count} {name}", fix="give one of each for every object")
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < num_classes):
        raise DataError(
            f"labels {int(labels.min())} … {int(labels.max())} of an image, for {num_classes} classes",
            fix=f"number the classes 0 … {num_classes - 1}; the background, {num_classes}, is never a label",
        )
    visible = sides_at_least(boxes, _SMALLEST_OBJECT)
    kept = visible & ~crowd
    if masks is not None:
        masks = masks.as_subclass(Tensor)
        masks = masks[kept.to(masks.device)].to(device, torch.bool)
    semantic = target.get("semantic")
    semantic = None if semantic is None else semantic.as_subclass(Tensor).to(device)
    focus = target.get("focus")
    return Objects(
        boxes[kept], labels[kept], boxes[visible & crowd], masks, semantic, None if focus is None else int(focus)
    )


def assign(
    proposals: Float[Tensor, "r 4"], objects: Objects, iou: float, background: int, crowd_overlap: float
) -> tuple[Int[Tensor, " r"], Int[Tensor, " r"]]:
    """Label of every proposal and the object that it overlaps most.

    Args:
        proposals: Boxes.
        objects: Annotations of the image.
        iou: Overlap from which on a proposal is foreground; all others are background.
        background: Label of the background, C.
        crowd_overlap: Background with at least this part of its area in a crowd region becomes ``IGNORED``.
    """
    if len(objects.boxes) and len(proposals):
        overlap, matched = box_iou(objects.boxes, proposals).max(dim=0)
        labels = torch.where(overlap >= iou, objects.labels[matched], background)
    else:
        matched = torch.zeros(len(proposals), dtype=torch.int64, device=proposals.device)
        labels = torch.full_like(matched, background)
    if len(objects.crowd):
        in_crowd = (labels == background) & (covered(proposals, objects.crowd) >= crowd_overlap)
        labels = labels.masked_fill(in_crowd, IGNORED)
    return labels, matched


def sample(labels: Int[Tensor, " r"], count: int, positive_fraction: float, background: int) -> Int[Tensor, " s"]:
    """Indices of a random sample: at most ``count * positive_fraction`` foreground, filled up with background."""
    positive = torch.where((labels != background) & (labels != IGNORED))[0]
    negative = torch.where(labels == background)[0]
    num_positive = min(len(positive), int(count * positive_fraction))
    num_negative = min(len(negative), count - num_positive)
    positive = positive[torch.randperm(len(positive), device=labels.device)[:num_positive]]
    negative = negative[torch.randperm(len(negative), device=labels.device)[:num_negative]]
    return torch.cat([positive, negative])


def sample_stage(proposals: Sequence[Tensor], objects: Sequence[Objects], config: CascadeConfig, stage: int) -> Samples:
    """Draw the training proposals of one stage: add the objects, assign all, sample."""
    samples = Samples([], [], [], [])
    for boxes, image in zip(proposals, objects, strict=True):
        added = torch.arange(len(boxes) + len(image.boxes), device=boxes.device) >= len(boxes)
        boxes = torch.cat([boxes, image.boxes])
        labels, matched = _assign(boxes, image, config, stage)
        chosen = sample(labels, config.samples, config.positive_fraction, config.num_classes)
        _append(samples, chosen, boxes, labels, matched, added)
    return samples


def relabel_stage(boxes: Sequence[Tensor], objects: Sequence[Objects], config: CascadeConfig, stage: int) -> Samples:
    """All refined boxes of the stage before, with new labels at this stage's IoU."""
    samples = Samples([], [], [], [])
    for refined, image in zip(boxes, objects, strict=True):
        labels, matched = _assign(refined, image, config, stage)
        chosen = torch.where(labels != IGNORED)[0]
        _append(samples, chosen, refined, labels, matched, torch.zeros_like(labels, dtype=torch.bool))
    return samples


def _assign(boxes: Tensor, image: Objects, config: CascadeConfig, stage: int) -> tuple[Tensor, Tensor]:
    return assign(boxes, image, config.stages[stage].iou, config.num_classes, config.crowd_overlap)


def _append(
    samples: Samples,
    chosen: Int[Tensor, " s"],
    boxes: Float[Tensor, "r 4"],
    labels: Int[Tensor, " r"],
    matched: Int[Tensor, " r"],
    added: Bool[Tensor, " r"],
) -> None:
    for values, value in zip(samples, (boxes, labels, matched, added), strict=True):
        values.append(value[chosen])
