"""The multi-expert loss: every stage of a cascade is trained as the expert of one group of categories."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups
from longtail.losses.base import ClassificationLoss
from longtail.losses.cross_entropy import CrossEntropy
from longtail.losses.label_space import LabelSpace
from longtail.losses.wrapped import WrappedLoss
from longtail.precision import at_least_float32
from longtail.settings import one_of
from longtail.shapes import Logits, PositionWeight, Scalar

Outside = Literal["plain", "lambda"]

#: Targets that take part in no cross-entropy.
_NO_CLASS = -100


def check_width(found: int, num_logits: int) -> None:
    """Refuse logits that are not as many as a loss takes: a missing background would pass as a class.

    Args:
        found: Number of logits.
        num_logits: Number that the loss takes.

    Raises:
        ConfigError: They differ.
    """
    if found != num_logits:
        lack = "; the background's is missing" if found == num_logits - 1 else ""
        raise ConfigError(
            f"a stage gives {found} logits, its loss takes {num_logits}{lack}",
            fix="give the classifier an output for each class and, last, one for the background (`num_logits` of the loss)",
        )


class MultiExpertLoss(WrappedLoss):
    r"""Cross-entropy over all classes, mixed with cross-entropy within the stage's own group.

    With λ = ``overall_weight``, group :math:`G` and logits :math:`o` of a position labelled :math:`y`,

    .. math::
        \ell = \begin{cases} λ\,CE(o, y) + (1-λ)\,CE(o|_G, y) & y ∈ G \\ CE(o, y) & y ∉ G \end{cases}

    which is :math:`-\log \hat p_y` of the paper without ever forming :math:`\hat p`. The mean is taken over the
    labelled positions. Background (any target ``>= classes in all groups``) is in no group.

    Args:
        group: Class ids of this stage's group; may be empty, which leaves the plain loss.
        num_classes: Number of values that a target may take: C foreground classes and the background.
        overall_weight: λ of Eq. 2 in [0, 1]; 1 is the plain loss.
        outside: Weight of foreground classes outside the group: ``plain`` (1, the second case of Eq. 2) or ``lambda``
            (λ, what p̃ = 1 of Eq. 1 would give). Background always weighs 1.
        base: Loss instead of CE(o, y); None for cross-entropy; λ is its ``position_weight``. It owns the number
            of logits and their probabilities.
        ignore_index: Target value of positions without a label; the base loss's, where there is one.

    Raises:
        ConfigError: A weight outside [0, 1], an id outside the classes, or an ``ignore_index`` that is a class.

    Source: MEC Eq. 1-2; SPEC §2.13.
    """

    place: Tensor
    columns: Tensor

    def __init__(
        self,
        group: Sequence[int],
        num_classes: int,
        *,
        overall_weight: float = 0.7,
        outside: Outside = "plain",
        base: ClassificationLoss | None = None,
        ignore_index: int = _NO_CLASS,
    ) -> None:
        check_arguments(group, num_classes, overall_weight)
        _check_base(base, num_classes)
        labels = LabelSpace(num_classes, background=True, ignore_index=ignore_index)
        super().__init__(CrossEntropy(labels) if base is None else base)
        self.group = tuple(sorted(int(c) for c in group))
        self.overall_weight = overall_weight
        self.outside: Outside = one_of("outside", outside, get_args(Outside))
        # class id -> its place in the group, _NO_CLASS for the rest
        place = torch.full((num_classes,), _NO_CLASS)
        place[list(self.group)] = torch.arange(len(self.group))
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("columns", torch.tensor(self.group, dtype=torch.long), persistent=False)
        first, last = (self.group[0], self.group[-1] + 1) if self.group else (0, 0)
        self._slice = slice(first, last) if last - first == len(self.group) else None

    def forward(self, logits: Logits, target: Int[Tensor, "n *grid"], position_weight: PositionWeight = None) -> Scalar:
        """The loss, a scalar; 0 and connected to the graph where nothing is labelled.

        Args:
            logits: Of one stage; boxes have no grid.
            target: Class ids, the background's (``num_classes - 1``) and ``ignore_index``.
            position_weight: Factor on each position's share of the loss; None for 1.
        """
        check_width(logits.shape[1], self.num_logits)
        target = target.long()
        logits = at_least_float32(logits)
        labelled = target != self.ignore_index
        place = torch.where(labelled, self.place[target.where(labelled, target.new_zeros(()))], _NO_CLASS)
        loss = self._overall(logits, target, place, position_weight)
        if self.overall_weight == 1.0 or not self.group:
            return loss
        within = (1.0 - self.overall_weight) * self._within(logits, place, position_weight)
        return loss + self.loss.normalise(within, target)

    def _within(self, logits: Tensor, place: Tensor, position_weight: Tensor | None) -> Tensor:
        """Sum of the cross-entropy within the group: few positions and a part of their logits, so it costs little."""
        if place.ndim > 1:
            logits, place = logits.movedim(1, -1).flatten(0, -2), place.flatten()
        members = (place >= 0).nonzero().squeeze(1)
        logits = logits.index_select(0, members)
        of_group = logits[:, self._slice] if self._slice is not None else logits.index_select(1, self.columns)
        if position_weight is None:
            return F.cross_entropy(of_group, place[members], reduction="sum")
        each = F.cross_entropy(of_group, place[members], reduction="none")
        return (position_weight.flatten()[members] * each).sum()

    def _overall(self, logits: Tensor, target: Tensor, place: Tensor, position_weight: Tensor | None) -> Scalar:
        """The loss over all classes, λ times where the rule applies."""
        weight = position_weight
        if self.overall_weight != 1.0:
            ones = torch.ones_like(target, dtype=logits.dtype) if weight is None else weight
            weight = torch.where(self._weighted_down(target, place), self.overall_weight * ones, ones)
        return self.loss(logits, target, weight)

    def _weighted_down(self, target: Tensor, place: Tensor) -> Tensor:
        """Positions whose overall loss weighs λ."""
        return place >= 0 if self.outside == "plain" else target != self.num_classes - 1


def expert_losses(
    groups: CategoryGroups,
    *,
    stage_to_group: Sequence[int | None] | None = None,
    overall_weight: float = 0.7,
    outside: Outside = "plain",
    base: Callable[[], ClassificationLoss] | None = None,
) -> list[MultiExpertLoss]:
    """Losses of a cascade, one for each stage.

    Args:
        groups: Groups of the C foreground classes, rarest first (the first stage sees the loosest boxes).
        stage_to_group: Group of every stage; None in it for a stage with the plain loss. None: stage k is the expert
            of group k.
        overall_weight: See ``MultiExpertLoss``.
        outside: See ``MultiExpertLoss``.
        base: Makes the base loss of one stage, since a loss may hold state; None for cross-entropy.

    Source: MEC §3.2.
    """
    return [
        MultiExpertLoss(
            () if group is None else groups.members[group],
            groups.num_classes + 1,
            overall_weight=overall_weight,
            outside=outside,
            base=None if base is None else base(),
        )
        for group in (range(groups.num_groups) if stage_to_group is None else stage_to_group)
    ]


def check_arguments(group: Sequence[int], num_classes: int, overall_weight: float) -> None:
    """Refuse what no expert loss can have.

    Args:
        group: Class ids of the group.
        num_classes: Number of foreground classes and the background.
        overall_weight: λ.

    Raises:
        ConfigError: λ outside [0, 1], or an id outside the foreground classes.
    """
    if not 0.0 <= overall_weight <= 1.0:
        raise ConfigError(f"overall_weight (lambda) is {overall_weight}", fix="give a weight in [0, 1], such as 0.7")
    wrong = [c for c in group if not 0 <= c < num_classes - 1]
    if wrong or len(set(group)) != len(group):
        raise ConfigError(
            f"the group holds {wrong or 'a class twice'}, but foreground classes are 0 … {num_classes - 2}",
            fix="list each foreground class once; num_classes counts the background too",
        )


def _check_base(base: ClassificationLoss | None, num_classes: int) -> None:
    if base is not None and base.num_classes != num_classes:
        raise ConfigError(
            f"the base loss is for {base.num_classes} classes, the expert for {num_classes}",
            fix="build both for the foreground classes and the background",
        )
