"""Queries matched with objects, and how a detector of queries reads its logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from longtail.losses.sigmoid import with_background
from longtail.shapes import Logits, Probabilities


class Matches(NamedTuple):
    """The queries of one stage that the detector has matched with objects.

    Attributes:
        logits: (m, logits) of the matched queries.
        labels: (m,) class ids of their objects.
        own: Indices (k,) of matched queries -> sum of the detector's own classification loss of these queries.
        divisor: What the own loss divides the sum over all queries by.
        quality: (m,) weight of every match where the own loss has one (overlap of the boxes); None for 1.
    """

    logits: Tensor
    labels: Tensor
    own: Callable[[Tensor], Tensor]
    divisor: float | Tensor
    quality: Tensor | None = None


@dataclass(frozen=True)
class Reading:
    """How the logits of a detector that brings its own loss become probabilities.

    Args:
        num_classes: Number of foreground classes C.
        sigmoids: C independent sigmoids, none for the background; otherwise a softmax over the classes and a last
            output for "no object".
    """

    num_classes: int
    sigmoids: bool

    @property
    def num_logits(self) -> int:
        """Number of outputs of a classifier."""
        return self.num_classes + (not self.sigmoids)

    @property
    def absolute_logits(self) -> bool:
        """See ``ClassificationLoss``."""
        return self.sigmoids

    def probabilities(self, logits: Logits) -> Probabilities:
        """Probabilities of the classes and, last, of the background; see ``losses.sigmoid.with_background``."""
        return with_background(logits.sigmoid()) if self.sigmoids else logits.softmax(dim=1)
