"""Softmax cross-entropy with the three normalisers of the field."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss
from longtail.options import one_of

#: ``valid`` divides by the labelled positions, ``all`` by every position (mmsegmentation's default), ``sum`` by 1.
Normalizer = Literal["valid", "all", "sum"]


def cross_entropy(
    logits: Float[Tensor, "n logits *grid"],
    target: Integer[Tensor, "n *grid"],
    *,
    ignore_index: int = 255,
    normalizer: Normalizer = "valid",
    weight: Float[Tensor, " logits"] | None = None,
    position_weight: Float[Tensor, "n *grid"] | None = None,
) -> Float[Tensor, ""]:
    """``-Σ log softmax(logits)[target]`` over labelled positions, divided as ``normalizer`` says.

    In float32 under automatic mixed precision. With no labelled position the loss is exactly 0, with zero gradient.

    Args:
        logits: Class scores.
        target: Class ids and ``ignore_index``.
        ignore_index: Target value of positions without a label.
        normalizer: See ``Normalizer``.
        weight: Factor of each class; ``valid`` then divides by the sum of the labelled positions' factors.
        position_weight: Factor on each position's share of the sum; it does not change what the sum is divided by.

    Source: MEDOE Eq. 3 for one label set; the choice of normaliser, SPEC §2.3.
    """
    target = target.long()
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if position_weight is None:
        total = F.cross_entropy(logits, target, weight, ignore_index=ignore_index, reduction="sum")
    else:
        each = F.cross_entropy(logits, target, weight, ignore_index=ignore_index, reduction="none")
        total = (position_weight * each).sum()
    return normalised(total, target, ignore_index=ignore_index, normalizer=normalizer, weight=weight)


def normalised(
    total: Float[Tensor, ""],
    target: Integer[Tensor, "n *grid"],
    *,
    ignore_index: int = 255,
    normalizer: Normalizer = "valid",
    weight: Float[Tensor, " logits"] | None = None,
) -> Float[Tensor, ""]:
    """A sum over the labelled positions, divided as ``normalizer`` says; 0 stays 0 where there are none.

    Args:
        total: The sum.
        target: Class ids and ``ignore_index``.
        ignore_index: Target value of positions without a label.
        normalizer: See ``Normalizer``.
        weight: Factor of each class, which ``valid`` then counts positions with.
    """
    if normalizer == "sum":
        return total
    if normalizer == "all":
        return total / max(1, target.numel())
    labelled = target != ignore_index
    if weight is None:
        return total / labelled.sum().clamp(min=1)
    mass = weight[target.long().where(labelled, 0)].where(labelled, 0).sum()
    return total / mass.where(mass > 0, 1)


def known_normalizer(normalizer: Normalizer) -> Normalizer:
    """The normaliser itself.

    Raises:
        ConfigError: There is no such normaliser.
    """
    return one_of("normalizer", normalizer, get_args(Normalizer))


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
        class_weight: Float[Tensor, " c"] | Sequence[float] | None = None,
    ) -> None:
        super().__init__(num_classes, ignore_index)
        if class_weight is not None:
            class_weight = torch.as_tensor(class_weight)
        if class_weight is not None and len(class_weight) != num_classes:
            raise ConfigError(
                f"{len(class_weight)} class weights for {num_classes} classes", fix="give one weight for each class"
            )
        self.normalizer = known_normalizer(normalizer)
        self.register_buffer("class_weight", class_weight)
        self.class_weight: Tensor | None

    def forward(
        self,
        logits: Float[Tensor, "n logits *grid"],
        target: Integer[Tensor, "n *grid"],
        position_weight: Float[Tensor, "n *grid"] | None = None,
    ) -> Float[Tensor, ""]:
        return cross_entropy(
            logits,
            target,
            ignore_index=self.ignore_index,
            normalizer=self.normalizer,
            weight=self.class_weight,
            position_weight=position_weight,
        )
