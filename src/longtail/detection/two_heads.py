"""Two classifiers side by side: one trained on all data as they are, one on a balanced sample of them."""

import torch
from jaxtyping import Shaped
from torch import Tensor

from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss
from longtail.shapes import Logits, PositionWeight, Probabilities, Scalar, Target


class TwoHeadsLoss(ClassificationLoss):
    r"""Reads the logits of two classifiers, one after the other; trains the second.

    With :math:`N_c` examples of class :math:`c` and threshold :math:`T`, foreground scores are the second's where
    :math:`N_c \le T` and the first's elsewhere; the background's is the first's; all are divided by their sum.

    Args:
        first: Loss that the first classifier was trained with: it defines how its logits are read.
        second: Loss of the second classifier.
        counts: (C,) training examples of the foreground classes.
        threshold: T.

    Raises:
        ConfigError: Losses of different numbers of classes, or not one count for each foreground class.

    Source: SimCal (Wang 2020), §4.2, dual-head inference; MEC's comparison 9.
    """

    rare: Tensor

    def __init__(
        self,
        first: ClassificationLoss,
        second: ClassificationLoss,
        counts: Shaped[Tensor, " c"],
        threshold: int = 300,
    ) -> None:
        super().__init__(second.labels)
        if first.num_classes != second.num_classes or len(counts) != second.num_classes - 1:
            raise ConfigError(
                f"heads of {first.num_classes} and {second.num_classes} classes with {len(counts)} counts",
                fix="build both for the foreground classes and the background, and count the foreground classes",
            )
        self.first = first
        self.second = second
        rare = torch.cat([counts <= threshold, torch.zeros(1, dtype=torch.bool, device=counts.device)])
        self.register_buffer("rare", rare, persistent=False)

    @property
    def num_logits(self) -> int:
        """Those of both classifiers."""
        return self.first.num_logits + self.second.num_logits

    def forward(self, logits: Logits, target: Target, position_weight: PositionWeight = None) -> Scalar:
        """The second's loss; the first's logits are only read."""
        return self.second(logits[:, self.first.num_logits :], target, position_weight)

    def probabilities(self, logits: Logits) -> Probabilities:
        """Frequent classes and background from the first classifier, rare classes from the second."""
        first = self.first.probabilities(logits[:, : self.first.num_logits])
        second = self.second.probabilities(logits[:, self.first.num_logits :])
        rare = self.rare.view(1, -1, *[1] * (logits.ndim - 2))
        chosen = torch.where(rare, second, first)
        return chosen / chosen.sum(dim=1, keepdim=True).clamp(min=torch.finfo(chosen.dtype).tiny)

    def set_progress(self, fraction: float) -> None:
        """Hand on to the second."""
        self.second.set_progress(fraction)
