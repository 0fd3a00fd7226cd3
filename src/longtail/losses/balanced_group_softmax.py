"""Balanced group softmax: classes compete with classes of like size only."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups
from longtail.losses.base import ClassificationLoss
from longtail.losses.label_space import LabelSpace
from longtail.losses.positions import labelled_rows
from longtail.shapes import Logits, PositionWeight, Probabilities, Scalar, Target


def sample_others(others: Bool[Tensor, " m"], ratio: float) -> Bool[Tensor, " m"]:
    """Positions that train a group: all of the group, and at random at most ``ratio`` times as many others.

    None where the group has no position.

    Source: Balanced group softmax (Li 2020), §4.2.
    """
    own = int((~others).sum())
    indices = others.nonzero().squeeze(1)
    number = int(own * ratio)
    if number >= len(indices):
        return torch.full_like(others, own > 0)
    drawn = indices[torch.randperm(len(indices), device=others.device)[:number]]
    return (~others).index_fill(0, drawn, True)


class BalancedGroupSoftmax(ClassificationLoss):
    """A softmax for each group of classes, with one more output for "others", and one for object or background.

    The logits are those of the C classes, of the background, of "an object", and of every group's "others". With
    ``P_g`` the softmax within group g and ``P_0`` that of background and object, ``p(c) = P_g(c) P_0(object)``; over
    the classes of several groups they need not sum to 1.

    A box is of its class in the group of its class and "others" in every other, where only some of the others are
    drawn (``sample_others``). The loss is the sum of the groups' cross-entropies, each divided by the boxes that it is
    taken of. The paper trains it as a new classifier on a finished detector.

    Args:
        labels: Classes, background and ignored value of box labels, with the training counts.
        edges: numbers of training instances at which a new group of classes begins; empty groups are left out
        ratio: β, others for each box of a group

    Raises:
        ConfigError: The loss is built for pixels, or β is below 0.

    Source: Balanced group softmax (Li 2020), Eqs. 4-7; PEERS part 2, 4.
    """

    order: Tensor
    place: Tensor
    absolute_logits = True

    def __init__(self, labels: LabelSpace, *, edges: Sequence[int] = (10, 100, 1000), ratio: float = 8.0) -> None:
        super().__init__(labels)
        if not labels.background:
            raise ConfigError(
                "balanced group softmax is for boxes: its scores rest on a background that joins the groups",
                fix="choose another loss for segmentation, such as 'seesaw' or 'balanced_softmax'",
            )
        if not ratio >= 0:
            raise ConfigError(f"ratio (beta) is {ratio}", fix="give a number of at least 0")
        self.num_foreground = labels.num_foreground
        self.ratio = ratio
        names = [f"from {edge}" for edge in (0, *edges)]
        groups = CategoryGroups.by_count(labels.counted().counts("instances"), edges, names)
        members = [m for m in groups.members if m]
        self.sizes = tuple(len(m) for m in members)
        # class -> its column within its group; "others" and all else stay at 0
        place = torch.zeros(len(members), self.num_classes, dtype=torch.long)
        for group, ids in enumerate(members):
            place[group, list(ids)] = torch.arange(1, len(ids) + 1)
        columns = [c for group, ids in enumerate(members) for c in (self.num_classes + 1 + group, *ids)]
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("order", torch.tensor(columns, dtype=torch.long), persistent=False)

    @property
    def num_logits(self) -> int:
        """C, background, object, and "others" of every group."""
        return self.num_classes + 1 + len(self.sizes)

    def forward(self, logits: Logits, target: Target, position_weight: PositionWeight = None) -> Scalar:
        rows = labelled_rows(logits, target, position_weight, self.num_classes, self.ignore_index)
        objects = (rows.target < self.num_foreground).long()
        total = rows.mean(F.cross_entropy(self._objectness(rows.logits), objects, reduction="none"))
        for place, group in zip(self.place, self._groups(rows.logits), strict=True):
            total = total + self._group_loss(group, place[rows.target], rows.weight)
        return total

    def probabilities(self, logits: Logits) -> Probabilities:
        """See the class."""
        objectness = self._objectness(logits).softmax(dim=1)
        classes = torch.cat([group.softmax(dim=1)[:, 1:] for group in self._groups(logits)], dim=1)
        own = self.order[self.order < self.num_foreground]
        return torch.cat([classes.index_select(1, own.argsort()) * objectness[:, 1:], objectness[:, :1]], dim=1)

    def _group_loss(self, logits: Float[Tensor, "m group"], label: Int[Tensor, " m"], weight: Tensor | None) -> Scalar:
        kept = sample_others(label == 0, self.ratio)
        each = F.cross_entropy(logits, label, reduction="none")
        each = each if weight is None else weight * each
        return each.where(kept, 0).sum() / kept.sum().clamp(min=1)

    def _objectness(self, logits: Tensor) -> Tensor:
        """Background and object."""
        return logits[:, self.num_foreground : self.num_foreground + 2]

    def _groups(self, logits: Tensor) -> Sequence[Tensor]:
        """Logits of every group, "others" first."""
        return logits.index_select(1, self.order).split([size + 1 for size in self.sizes], dim=1)
