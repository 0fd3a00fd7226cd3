"""Region proposals on torchvision's detection models; no other file imports these."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from longtail.boxes import covered
from longtail.detection.config import ProposalConfig
from longtail.detection.targets import Objects


class ProposalNetwork(RegionProposalNetwork):
    """Torchvision's region proposal network with fixed strides, float32 boxes and crowd regions.

    Args:
        channels: Channels of every pyramid level.
        strides: Stride of every pyramid level, in pixels.
        config: Anchors, sampling and limits.
        crowd_overlap: Anchors with at least this part of their area in a crowd region are no negatives.
    """

    def __init__(
        self, channels: int, strides: Sequence[int], config: ProposalConfig, crowd_overlap: float = 0.5
    ) -> None:
        super().__init__(
            _PyramidAnchors(config.anchor_sizes, config.aspect_ratios, strides),
            _Head(channels, len(config.aspect_ratios)),
            config.foreground_iou,
            config.background_iou,
            config.samples,
            config.positive_fraction,
            {"training": config.candidates_train, "testing": config.candidates_test},
            {"training": config.kept_train, "testing": config.kept_test},
            config.nms_iou,
        )
        self.crowd_overlap = crowd_overlap

    def propose(
        self,
        images: Float[Tensor, "n bands h w"],
        sizes: Sequence[tuple[int, int]],
        features: Sequence[Float[Tensor, "n c _ _"]],
        objects: Sequence[Objects] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals (R, 4) of every image, best first, and in training the losses.

        Args:
            images: Padded batch.
            sizes: (height, width) of each image before padding.
            features: Pyramid, finest level first.
            objects: Annotations of each image; only in training.
        """
        targets = None if objects is None else [{"boxes": o.boxes, "crowd": o.crowd} for o in objects]
        levels = OrderedDict((str(k), level) for k, level in enumerate(features))
        proposals, losses = self(ImageList(images, list(sizes)), levels, targets)
        named = {"loss_objectness": "proposal_objectness", "loss_rpn_box_reg": "proposal_box"}
        return proposals, {named[k]: v for k, v in losses.items()}

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Torchvision's assignment; negatives inside a crowd region become neither."""
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        for label, boxes, target in zip(labels, anchors, targets, strict=True):
            if len(target["crowd"]):
                label[(label == 0) & (covered(boxes, target["crowd"]) >= self.crowd_overlap)] = -1.0
        return labels, matched

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Torchvision's losses; 0 where no anchor can be sampled (an image that is all crowd), never NaN."""
        if not any(bool((label >= 0).any()) for label in labels):
            return objectness.sum() * 0, pred_bbox_deltas.sum() * 0
        return super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)


class _Head(RPNHead):
    """Boxes need float32, whatever autocast chose for the convolutions."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = super().forward(x)
        return [o.float() for o in objectness], [d.float() for d in deltas]


class _PyramidAnchors(AnchorGenerator):
    """Anchors at the pyramid's own strides; torchvision's are inferred and vary with the padding of the batch."""

    def __init__(self, sizes: Sequence[int], ratios: Sequence[float], strides: Sequence[int]) -> None:
        super().__init__(tuple((s,) for s in sizes), tuple(tuple(ratios) for _ in sizes))
        self.strides = tuple(strides)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        anchors = torch.cat([self.of_level(level, feature_map) for level, feature_map in enumerate(feature_maps)])
        return [anchors for _ in image_list.image_sizes]

    def of_level(self, level: int, feature_map: Float[Tensor, "n c h w"]) -> Float[Tensor, "anchors 4"]:
        """Anchors of one level: row by row, at each position those of every ratio."""
        kind: dict[str, Any] = {"dtype": torch.float32, "device": feature_map.device}
        y, x = (torch.arange(side, **kind) * self.strides[level] for side in feature_map.shape[-2:])
        down, across = torch.meshgrid(y, x, indexing="ij")
        corners = torch.stack([across, down, across, down], dim=2)
        return (corners.unsqueeze(2) + self.cell_anchors[level].to(**kind)).reshape(-1, 4)
