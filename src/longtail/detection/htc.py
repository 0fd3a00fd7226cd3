"""Hybrid Task Cascade: boxes and masks in turn, masks that build on the masks of the stage before."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from longtail.detection.cascade import Cascade, Pyramid
from longtail.detection.config import CascadeConfig
from longtail.detection.stage import ClassifierFactory, LinearClassifier, StageLosses, as_rois, pool
from longtail.detection.targets import Objects
from longtail.errors import ConfigError, DataError
from longtail.shapes import Losses, Scalar

_SEMANTIC_WEIGHT = 0.2
_SEMANTIC_STRIDE = 8
_SEMANTIC_IGNORED = 255


class SemanticBranch(nn.Module):
    """Semantic segmentation from the whole pyramid, whose features are added to the stages' pooled features.

    Args:
        channels: Channels of every pyramid level.
        strides: Strides of the levels; the maps are fused at the one of stride 8.
        num_levels: Number of pyramid levels.
        num_classes: Number of semantic classes.
        num_convolutions: Number of 3x3 convolutions after the fusion.

    Source: HTC (Chen 2019), §3.3.
    """

    def __init__(
        self, channels: int, strides: Sequence[int], num_levels: int, num_classes: int, num_convolutions: int = 4
    ) -> None:
        super().__init__()
        self.level = tuple(strides).index(_SEMANTIC_STRIDE)
        self.lateral = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(num_levels))
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(num_convolutions))
        self.embedding = nn.Conv2d(channels, channels, 1)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, levels: Sequence[Float[Tensor, "n c _ _"]]) -> tuple[Tensor, Tensor]:
        """Features (n, c, h, w) to pool from and logits (n, classes, h, w), both at stride 8."""
        size = levels[self.level].shape[-2:]
        fused = torch.zeros_like(levels[self.level])
        for lateral, level in zip(self.lateral, levels, strict=True):
            resized = F.interpolate(level, size, mode="bilinear", align_corners=True)
            fused = fused + F.relu(lateral(resized))
        for convolution in self.convolutions:
            fused = F.relu(convolution(fused))
        return F.relu(self.embedding(fused)), self.classifier(fused).float()


class HybridTaskCascade(Cascade):
    """Cascade whose mask heads learn from boxes that their own stage has refined, and read the mask features of the
    stage before.

    Args:
        config: Settings; masks must be ``every_stage``.
        channels: See ``Cascade``.
        strides: See ``Cascade``.
        losses: See ``Cascade``.
        classifier: See ``Cascade``.
        semantic_classes: Number of classes of the semantic branch; None for none.

    Raises:
        ConfigError: The configuration has not a mask head in every stage.

    Source: HTC (Chen 2019), Eqs. 3, 5 and 6.
    """

    interleaved = True

    def __init__(
        self,
        config: CascadeConfig,
        channels: int,
        strides: Sequence[int],
        losses: StageLosses,
        classifier: ClassifierFactory = LinearClassifier,
        semantic_classes: int | None = None,
    ) -> None:
        if config.masks != "every_stage":
            raise ConfigError(f"HTC with masks={config.masks!r}", fix="set masks='every_stage', or build a cascade")
        super().__init__(config, channels, strides, losses, classifier)
        self.semantic = (
            None if semantic_classes is None else SemanticBranch(channels, strides, len(strides) + 1, semantic_classes)
        )

    def embed(self, levels: Sequence[Float[Tensor, "n c _ _"]]) -> Pyramid:
        """Feature maps that the stages pool from, and those of the semantic branch."""
        return Pyramid(levels) if self.semantic is None else Pyramid(levels, *self.semantic(levels))

    def pool_boxes(self, pyramid: Pyramid, boxes: Sequence[Tensor]) -> Float[Tensor, "r c s s"]:
        """Pooled features, and those of the semantic branch on the same grid."""
        pooled = super().pool_boxes(pyramid, boxes)
        semantic = self._pool_semantic(pyramid, boxes)
        return pooled if semantic is None else pooled + F.adaptive_avg_pool2d(semantic, pooled.shape[-1])

    def pool_masks(self, pyramid: Pyramid, boxes: Sequence[Tensor]) -> Float[Tensor, "r c s s"]:
        """Pooled features, and those of the semantic branch on the same grid."""
        pooled = super().pool_masks(pyramid, boxes)
        semantic = self._pool_semantic(pyramid, boxes)
        return pooled if semantic is None else pooled + semantic

    def _pool_semantic(self, pyramid: Pyramid, boxes: Sequence[Tensor]) -> Tensor | None:
        if self.semantic is None or pyramid.semantic is None:
            return None
        pooler = self.mask_pooler
        return pool(
            pyramid.semantic, as_rois(boxes), pooler.output_size, _SEMANTIC_STRIDE, pooler.samples, pooler.aligned
        )

    def losses(
        self,
        pyramid: Pyramid,
        proposals: Sequence[Tensor],
        objects: Sequence[Objects],
        sizes: Sequence[tuple[int, int]],
        with_masks: bool = True,
    ) -> Losses:
        """See ``Cascade.losses``; that of the semantic branch comes first."""
        losses = super().losses(pyramid, proposals, objects, sizes, with_masks)
        if pyramid.semantic_logits is None:
            return losses
        return {"semantic": _SEMANTIC_WEIGHT * semantic_loss(pyramid.semantic_logits, objects), **losses}


def semantic_loss(logits: Float[Tensor, "n classes h w"], objects: Sequence[Objects]) -> Scalar:
    """Cross-entropy of the semantic branch; maps are read at the logits' resolution, 255 and padding are ignored.

    Raises:
        DataError: An image has no semantic map, or one of classes that the branch does not know.
    """
    stride = _SEMANTIC_STRIDE
    size = (logits.shape[2] * stride, logits.shape[3] * stride)
    targets = torch.full((len(objects), *size), _SEMANTIC_IGNORED, device=logits.device)
    for target, image in zip(targets, objects, strict=True):
        if image.semantic is None:
            raise DataError(
                "an image has no semantic map", fix="give 'semantic' in every target, or semantic_classes=None"
            )
        height, width = image.semantic.shape
        target[:height, :width] = image.semantic
    read = targets[:, stride // 2 :: stride, stride // 2 :: stride].long()
    largest = int(read.where(read != _SEMANTIC_IGNORED, -1).max())
    if largest >= logits.shape[1]:
        raise DataError(
            f"a semantic map has class {largest}, the semantic branch {logits.shape[1]} classes",
            fix="set semantic_classes to the number of classes of the maps",
        )
    total = F.cross_entropy(logits, read, ignore_index=_SEMANTIC_IGNORED, reduction="sum")
    return total / (read != _SEMANTIC_IGNORED).sum().clamp(min=1)
