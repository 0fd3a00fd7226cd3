"""Softmax cross-entropy with the three normalisers of the field."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss
from longtail.losses.label_space import LabelSpace
from longtail.precision import at_least_float32
from longtail.settings import one_of
from longtail.shapes import Logits, PositionWeight, Scalar, Target

#: ``valid`` divides by the labelled positions, ``all`` by every position (mmsegmentation's default), ``sum`` by 1.
Normalizer = Literal["valid", "all", "sum"]


def cross_entropy(
    logits: Logits,
    target: Target,
    *,
    ignore_index: int = 255,
    normalizer: Normalizer = "valid",
    weight: Float[Tensor, " logits"] | None = None,
    position_weight: PositionWeight = None,
) -> Scalar:
    """``-Σ log softmax(logits)[target]`` over labelled positions, divided by ``normalizer``.

    In float32 under automatic mixed precision. With no labelled position the loss is exactly 0, with zero gradient.

    Args:
        logits: Class scores.
        target: Class ids and ``ignore_index``.
        ignore_index: Target value of positions without a label.
        normalizer: See ``Normalizer``.
        weight: Factor of each class; ``valid`` then divides by the sum of the labelled positions' factors.
        position_weight: Factor on each position's share of the sum; it does not change the divisor of the sum.

    Source: MEDOE Eq. 3 for one label set; the choice of normaliser, SPEC §2.3.
    """
    target = target.long()
    logits = at_least_float32(logits)
    if position_weight is None:
        total = F.cross_entropy(logits, target, weight, ignore_index=ignore_index, reduction="sum")
    else:
        each = F.cross_entropy(logits, target, weight, ignore_index=ignore_index, reduction="none")
        total = (position_weight * each).sum()
    return normalised(total, target, ignore_index=ignore_index, normalizer=normalizer, weight=weight)


def normalised(
    total: Scalar,
    target: Target,
    *,
    ignore_index: int = 255,
    normalizer: Normalizer = "valid",
    weight: Float[Tensor, " logits"] | None = None,
) -> Scalar:
    """A sum over the labelled positions, divided by ``normalizer``; 0 stays 0 where there are none.

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


class SoftmaxLoss(ClassificationLoss, ABC):
    """Cross-entropy of logits that are adjusted in training; a plain softmax reads them.

    Args:
        labels: Classes, background and ignored value of the labels.
        normalizer: Divisor of the sum over the labelled positions: valid (their number), all (the number of
            positions) or sum (1).
    """

    def __init__(self, labels: LabelSpace | int, normalizer: Normalizer = "valid") -> None:
        super().__init__(labels)
        self.normalizer = one_of("normalizer", normalizer, get_args(Normalizer))

    def forward(self, logits: Logits, target: Target, position_weight: PositionWeight = None) -> Scalar:
        target, weight = target.long(), self.current_weight()
        logits = self.adjusted(at_least_float32(logits), target)
        return cross_entropy(
            logits,
            target,
            ignore_index=self.ignore_index,
            normalizer=self.normalizer,
            weight=None if weight is None else weight.to(logits.dtype),
            position_weight=position_weight,
        )

    def normalise(self, total: Scalar, target: Target) -> Scalar:
        """Divide by ``normalizer``."""
        weight = self.current_weight()
        return normalised(total, target, ignore_index=self.ignore_index, normalizer=self.normalizer, weight=weight)

    @abstractmethod
    def adjusted(self, logits: Logits, target: Target) -> Logits:
        """The logits that cross-entropy is taken of."""

    def current_weight(self) -> Float[Tensor, " logits"] | None:
        """Factor of each class now; None for 1."""
        return None


def over_classes(values: Float[Tensor, " logits"], logits: Logits) -> Tensor:
    """One value for each logit, shaped to be added to logits."""
    return values.view(-1, *[1] * (logits.ndim - 2))


class CrossEntropy(SoftmaxLoss):
    """``cross_entropy`` as a module.

    Args:
        labels: Classes, background and ignored value of the labels.
        normalizer: Divisor of the sum over the labelled positions: valid (their number), all (the number of
            positions) or sum (1).
        class_weight: factor of each class

    Source: MEDOE Eq. 3 for one label set.
    """

    def __init__(
        self,
        labels: LabelSpace | int,
        *,
        normalizer: Normalizer = "valid",
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(labels, normalizer)
        if class_weight is not None and len(class_weight) != self.num_classes:
            raise ConfigError(f"{len(class_weight)} class weights for {self.num_classes} classes", fix="give as many")
        self.register_buffer("class_weight", None if class_weight is None else torch.tensor(class_weight))
        self.class_weight: Tensor | None

    def adjusted(self, logits: Logits, target: Target) -> Logits:
        return logits

    def current_weight(self) -> Float[Tensor, " logits"] | None:
        return self.class_weight
