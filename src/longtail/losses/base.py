"""The contract of a classification loss, for pixels and boxes alike."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtail.losses.label_space import LabelSpace
from longtail.shapes import Logits, PositionWeight, Probabilities, Scalar, Target


class ClassificationLoss(nn.Module, ABC):
    """A loss that owns the reading of its logits: how many it needs, and how they become probabilities.

    Pixels have a grid, ``(n, logits, h, w)``; boxes have none, ``(n, logits)``. Targets hold class ids
    0 … C-1, for boxes also C (background), and ``ignore_index``. The logit of class c is column c.

    State of training (running counts, gradients) is in buffers, so that it is saved, resumed and moved
    with the model.

    Args:
        labels: Classes, background and ignored value of the labels; a number C stands for C classes of pixels.
    """

    #: Whether the logit of a class is compared with 0 or a separate output rather than with all other classes:
    #: sigmoids, groups with "others". Group alignment then keeps its level.
    absolute_logits: bool = False

    def __init__(self, labels: LabelSpace | int) -> None:
        super().__init__()
        self.labels = LabelSpace(labels) if isinstance(labels, int) else labels
        self.num_classes = self.labels.num_classes
        self.ignore_index = self.labels.ignore_index

    @property
    def num_logits(self) -> int:
        """Number of outputs that the classifier must have."""
        return self.num_classes

    @property
    def initial_bias(self) -> Float[Tensor, " logits"] | None:
        """Bias that a new classifier starts from; None for 0. Losses of sigmoids start at a small probability."""
        return None

    @abstractmethod
    def forward(self, logits: Logits, target: Target, position_weight: PositionWeight = None) -> Scalar:
        """The loss, a scalar; exactly 0 and connected to the graph where nothing is labelled.

        Args:
            logits: Of the classifier.
            target: Class ids and ``ignore_index``.
            position_weight: Factor on each position's share of the loss; it does not change the divisor of the sum
                by. None for 1.
        """

    def probabilities(self, logits: Logits) -> Probabilities:
        """Class probabilities of the logits; they sum to 1 over the classes unless the loss documents otherwise."""
        return logits.softmax(dim=1)

    def normalise(self, total: Scalar, target: Target) -> Scalar:
        """A sum over the labelled positions, divided as the loss divides its own: by their number here.

        Args:
            total: The sum.
            target: Class ids and ``ignore_index``.
        """
        return total / (target != self.ignore_index).sum().clamp(min=1)

    def set_progress(self, fraction: float) -> None:
        """Told before every step which part of the phase is done, in [0, 1); losses with a schedule override it."""


@torch.no_grad()
def start_bias(classifier: nn.Module, loss: Any) -> None:
    """Set the bias of a new classifier to the loss's ``initial_bias``, where both exist.

    Args:
        classifier: A layer that gives the loss's logits.
        loss: A ``ClassificationLoss``, or anything.
    """
    start, bias = getattr(loss, "initial_bias", None), getattr(classifier, "bias", None)
    if start is not None and bias is not None:
        bias.copy_(start)
