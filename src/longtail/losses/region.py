"""Losses of the regions that classes cover, beside cross-entropy of the positions."""

from abc import abstractmethod

import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss
from longtail.losses.label_space import LabelSpace
from longtail.losses.positions import labelled_rows
from longtail.shapes import Logits, PositionWeight, Scalar, Target


class RegionLoss(ClassificationLoss):
    """Mean over the classes in the batch of how badly each region fits, plus a weight times cross-entropy.

    A rare class weighs as much as a frequent one. A region has no share of a single position: weights of positions scale
    the loss by their mean over the labelled ones. Under several ranks each compares the regions of its own images.

    Args:
        labels: Classes, background and ignored value of the labels.
        cross_entropy: Weight of cross-entropy; at 0 a class that is predicted nowhere hardly learns.

    Raises:
        ConfigError: The weight is negative.
    """

    def __init__(self, labels: LabelSpace | int, *, cross_entropy: float = 1.0) -> None:
        super().__init__(labels)
        if cross_entropy < 0:
            raise ConfigError(f"cross_entropy is {cross_entropy}", fix="give a weight from 0")
        self.cross_entropy = cross_entropy

    @abstractmethod
    def misfits(
        self, probabilities: Float[Tensor, "m classes"], present: Float[Tensor, "m classes"]
    ) -> Float[Tensor, " classes"]:
        """How badly the region of each class fits, in [0, 1].

        Args:
            probabilities: Of labelled positions.
            present: 1 at the label, 0 elsewhere; every column has a 1.
        """

    def forward(self, logits: Logits, target: Target, position_weight: PositionWeight = None) -> Scalar:
        rows = labelled_rows(logits, target, position_weight, self.num_classes, self.ignore_index)
        if not len(rows.target):
            return rows.logits.sum()
        scale = 1.0 if rows.weight is None else rows.weight.mean()
        misfits = self.misfits(*self._of_classes(rows.logits.softmax(dim=1), rows.target))
        return scale * (misfits.mean() + self.cross_entropy * F.cross_entropy(rows.logits, rows.target))

    def _of_classes(self, probabilities: Tensor, target: Integer[Tensor, " m"]) -> tuple[Tensor, Tensor]:
        """Probabilities and presence of the classes that occur."""
        classes = target.unique()
        present = (target.unsqueeze(1) == classes).to(probabilities.dtype)
        return probabilities[:, classes], present
