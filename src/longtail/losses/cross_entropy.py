"""Softmax cross-entropy with the three normalisers of the field."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss

#: ``valid`` divides by the labelled positions, ``all`` by every position (mmsegmentation's default), ``sum`` by 1.
Normalizer = Literal["valid", "all", "sum"]


def cross_entropy(
    logits: Float[Tensor, "n logits *grid"],
    target: Integer[Tensor, "n *grid"],
    *,
    ignore_index: int = 255,
    normalizer: Normalizer = "valid",
    weight: Float[Tensor, " logits"] | None = None,
) -> Float[Tensor, ""]:
    """``-Σ log softmax(logits)[target]`` over labelled positions, divided as ``normalizer`` says.

    In float32 under automatic mixed precision. With no labelled position the loss is exactly 0, with zero gradient.

    Args:
        logits: Class scores.
        target: Class ids and ``ignore_index``.
        ignore_index: Target value of positions without a label.
        normalizer: See ``Normalizer``.
        weight: Factor of each class; ``valid`` then divides by the sum of the labelled positions' factors.

    Source: MEDOE Eq. 3 for one label set; the choice of normaliser, SPEC §2.3.
    """
    target = target.long()
    total = F.cross_entropy(logits.float(), target, weight, ignore_index=ignore_index, reduction="sum")
    if normalizer == "sum":
        return total
    if normalizer == "all":
        return total / max(1, target.numel())
    labelled = target != ignore_index
    if weight is None:
        return total / labelled.sum().clamp(min=1)
    mass = weight[target.where(labelled, 0)].where(labelled, 0).sum()
    return total / mass.where(mass > 0, 1)


class CrossEntropy(ClassificationLoss):
    """``cross_entropy`` as a module.

    Args:
        num_classes: Number of classes that the target may name.
        ignore_index: Target value of positions without a label.
        normalizer: See ``Normalizer``.
        class_weight: (C,) factor of each class; positions with ``ignore_index`` never read it.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        *,
        normalizer: Normalizer = "valid",
        class_weight: Float[Tensor, " c"] | None = None,
    ) -> None:
        super().__init__(num_classes, ignore_index)
        if class_weight is not None and len(class_weight) != num_classes:
            raise ConfigError(
                f"{len(class_weight)} class weights for {num_classes} classes", fix="give one weight for each class"
            )
        self.normalizer: Normalizer = normalizer
        self.register_buffer("class_weight", class_weight)
        self.class_weight: Tensor | None

    def forward(self, logits: Float[Tensor, "n logits *grid"], target: Integer[Tensor, "n *grid"]) -> Float[Tensor, ""]:
        return cross_entropy(
            logits, target, ignore_index=self.ignore_index, normalizer=self.normalizer, weight=self.class_weight
        )
