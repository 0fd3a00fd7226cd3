"""Losses of logits below the image's size."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from longtail.losses.base import ClassificationLoss
from longtail.losses.cross_entropy import CrossEntropy, Normalizer, normalised
from longtail.pixels.expert_sums import softmax_sums
from longtail.pixels.upsampling import Upsampling
from longtail.shapes import Scalar


def loss_of_upsampled(
    loss: ClassificationLoss,
    logits: Float[Tensor, "n logits h w"],
    target: Integer[Tensor, "n H W"],
    upsampling: Upsampling,
) -> Scalar:
    """``loss(upsampling(logits), target)``; plain cross-entropy does not make the map.

    Args:
        loss: Any loss of pixels.
        logits: At the head's own resolution.
        target: Class ids and ``ignore_index``.
        upsampling: From the logits to the target's size.
    """
    if type(loss) is not CrossEntropy:
        return loss(upsampling(logits), target)
    return upsampled_cross_entropy(
        logits, target, upsampling, ignore_index=loss.ignore_index, normalizer=loss.normalizer, weight=loss.class_weight
    )


def upsampled_cross_entropy(
    logits: Float[Tensor, "n logits h w"],
    target: Integer[Tensor, "n H W"],
    upsampling: Upsampling,
    *,
    ignore_index: int = 255,
    normalizer: Normalizer = "valid",
    weight: Float[Tensor, " logits"] | None = None,
) -> Scalar:
    """``cross_entropy(upsampling(logits), target, ...)`` without the map (``softmax_sums``).

    Args:
        logits: At the head's own resolution.
        target: Class ids and ``ignore_index``.
        upsampling: From the logits to the target's size.
        ignore_index: Target value of pixels without a label.
        normalizer: See ``Normalizer``.
        weight: Factor of each class.
    """
    each = None if weight is None else weight[target.long().where(target != ignore_index, 0)]
    everything = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    total, _ = softmax_sums(logits, target, everything, upsampling, ignore_index=ignore_index, weight=each)
    return normalised(total, target, ignore_index=ignore_index, normalizer=normalizer, weight=weight)
