"""Seesaw loss: rare classes are pushed down less, mistaken ones more."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from longtail.distributed import all_reduce_sum
from longtail.losses.base import ClassificationLoss
from longtail.losses.cross_entropy import cross_entropy
from longtail.losses.label_space import LabelSpace
from longtail.losses.positions import labelled_rows
from longtail.precision import at_least_float32
from longtail.shapes import Logits, PositionWeight, Probabilities, Scalar, Target


def seesaw_logits(
    logits: Float[Tensor, "n c *grid"],
    target: Int[Tensor, "n *grid"],
    counts: Int[Tensor, " c"],
    *,
    mitigation: float = 0.8,
    compensation: float = 2.0,
    eps: float = 0.01,
) -> Float[Tensor, "n c *grid"]:
    r"""``o_j + log S_yj``, whose softmax cross-entropy is the seesaw loss.

    .. math::
        S_{yj} = \min(1, N_j / N_y)^p \; \max(1, σ_j / \max(σ_y, ε))^q, \quad S_{yy} = 1

    S passes no gradient. Counts of 0 are read as 1.

    Args:
        logits: Of every position.
        target: Class ids below c.
        counts: N, how often each class occurred.
        mitigation: p.
        compensation: q.
        eps: ε.

    Source: Seesaw loss (Wang 2021), Eqs. 4-7; PEERS part 2, 4.
    """
    with torch.no_grad():
        factor = torch.zeros_like(logits)
        if compensation > 0:
            chances = torch.log_softmax(logits, dim=1)
            of_label = chances.gather(1, target.unsqueeze(1)).clamp(min=math.log(eps))
            factor = chances.sub_(of_label).clamp_(min=0).mul_(compensation)
        if mitigation > 0:
            seen = counts.clamp(min=1).to(logits.dtype).log()
            ratios = seen.view(-1, *[1] * (logits.ndim - 2)) - seen[target].unsqueeze(1)
            factor += ratios.clamp_(max=0).mul_(mitigation)
    return logits + factor


class SeesawLoss(ClassificationLoss):
    """Cross-entropy of ``seesaw_logits`` with running counts; for boxes also of object against background.

    Pixels have C logits. Boxes have C class logits, read by the loss where there is an object, then two of objectness:
    background, object. Their sum is divided by the number of all labelled positions, and
    p(c) = softmax(o)_c p(object).

    The counts grow in training mode only, the batch at hand included.

    Args:
        labels: Classes, background and ignored value of the labels.
        mitigation: p, how little rare classes are pushed down; 0 for none
        compensation: q, how much mistaken classes are pushed down; 0 for none
        eps: least probability of the label that compensation divides by
        across_ranks: count the labels of all ranks (the original counts each rank's own; DDP then hands on those of the
            first)

    Source: Seesaw loss (Wang 2021); PEERS part 2, 4.
    """

    counts: Tensor

    def __init__(
        self,
        labels: LabelSpace | int,
        *,
        mitigation: float = 0.8,
        compensation: float = 2.0,
        eps: float = 0.01,
        across_ranks: bool = True,
    ) -> None:
        super().__init__(labels)
        self.background, self.num_foreground = self.labels.background, self.labels.num_foreground
        self.mitigation, self.compensation, self.eps = mitigation, compensation, eps
        self.across_ranks = across_ranks
        self.register_buffer("counts", torch.zeros(self.num_foreground, dtype=torch.int64))

    @property
    def num_logits(self) -> int:
        """C for pixels, C + 2 for boxes."""
        return self.num_classes + self.background

    def forward(self, logits: Logits, target: Target, position_weight: PositionWeight = None) -> Scalar:
        if not self.background:
            return self._pixel_loss(logits, target.long(), position_weight)
        rows = labelled_rows(logits, target, position_weight, self.num_classes, self.ignore_index)
        foreground = rows.target < self.num_foreground
        if self.training:
            self._count(rows.target[foreground])
        objectness = F.cross_entropy(rows.logits[:, self.num_foreground :], foreground.long(), reduction="none")
        labels = rows.target[foreground]
        adjusted = self._adjusted(rows.logits[foreground, : self.num_foreground], labels)
        classes = F.cross_entropy(adjusted, labels, reduction="none")
        return rows.mean(objectness.index_put((foreground.nonzero().squeeze(1),), classes, accumulate=True))

    def probabilities(self, logits: Logits) -> Probabilities:
        """Softmax; for boxes of the classes given an object, and of object against background."""
        if not self.background:
            return logits.softmax(dim=1)
        objectness = logits[:, self.num_foreground :].softmax(dim=1)
        classes = logits[:, : self.num_foreground].softmax(dim=1)
        return torch.cat([classes * objectness[:, 1:], objectness[:, :1]], dim=1)

    def _pixel_loss(self, logits: Tensor, target: Tensor, position_weight: Tensor | None) -> Tensor:
        labelled = target != self.ignore_index
        if self.training:
            self._count(target[labelled])
        logits = at_least_float32(logits)
        adjusted = self._adjusted(logits, target.where(labelled, 0))
        return cross_entropy(adjusted, target, ignore_index=self.ignore_index, position_weight=position_weight)

    def _adjusted(self, logits: Tensor, labels: Tensor) -> Tensor:
        options = {"mitigation": self.mitigation, "compensation": self.compensation, "eps": self.eps}
        return seesaw_logits(logits, labels, self.counts, **options)

    def _count(self, labels: Tensor) -> None:
        found = torch.bincount(labels, minlength=self.num_foreground)
        self.counts += all_reduce_sum(found) if self.across_ranks else found
