"""Label sets: the categories that each expert is trained on, and those that it dominates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Bool, Integer
from torch import Tensor

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.frequency.edges import advice_on_sizes
from longtail.losses.positions import check_labels
from longtail.medoe.options import Overlap
from longtail.settings import one_of


@dataclass(frozen=True)
class LabelSets:
    """Label set S_i of each of the K experts.

    Args:
        members: Class ids of each set.
        num_classes: C.

    Source: MEDOE Eq. 1; SPEC §2.1.
    """

    members: tuple[tuple[int, ...], ...]
    num_classes: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(tuple(sorted({int(c) for c in m})) for m in self.members))
        everyone = {c for m in self.members for c in m}
        unknown = everyone - set(range(self.num_classes))
        empty = [i + 1 for i, m in enumerate(self.members) if not m]
        if empty or not self.members:
            raise ConfigError(
                f"the label sets of experts {empty} are empty" if empty else "there are no label sets",
                fix="give every expert at least one class",
            )
        if unknown:
            raise ConfigError(
                f"label sets name the classes {sorted(unknown)}, outside 0 … {self.num_classes - 1}",
                fix="use the data set's class ids",
            )
        if len(everyone) < self.num_classes:
            raise ConfigError(
                f"classes {sorted(set(range(self.num_classes)) - everyone)} are in no label set",
                fix="give every class to at least one expert; the first expert normally has them all",
            )

    @classmethod
    def from_groups(cls, groups: CategoryGroups, overlap: Overlap = "nested") -> "LabelSets":
        """One expert per group, most frequent first.

        Args:
            groups: Head, body, tail (or any number of groups, most frequent first).
            overlap: ``nested``: S_i = group i and all rarer groups (Eq. 1), so that few categories meet many experts.
                ``disjoint_tail``: S_1 = all classes, the others their own group: the paper's "without overlap", since
                the encoder is trained on all labels. ``fully_disjoint``: every expert its own group alone; the encoder
                is then taught the first group's labels only. Rare pixels reach it as pixels of some class outside the
                group, through expert 1's L2 term, which runs over all labelled ones; ``penalty_pixels="expert"`` of
                ``ExpertLossOptions`` leaves them out.

        Raises:
            ConfigError: A group is empty: its expert would dominate no class.

        Source: MEDOE Eq. 1 and Table 8.
        """
        everyone = tuple(range(groups.num_classes))
        members = groups.members
        one_of("overlap", overlap, get_args(Overlap))
        if overlap == "nested":
            sets = [tuple(c for m in members[i:] for c in m) for i in range(len(members))]
        elif overlap == "disjoint_tail":
            sets = [everyone, *members[1:]]
        else:
            sets = list(members)
        if empty := ", ".join(name for name, size in zip(groups.names, groups.sizes, strict=True) if not size):
            found = ", ".join(f"{size} {name}" for name, size in zip(groups.names, groups.sizes, strict=True))
            raise ConfigError(
                f"{empty}: no class for an expert, of the {groups.num_classes} that the groups part into {found}",
                fix=advice_on_sizes(groups.num_classes, groups.num_groups),
            )
        return cls(tuple(sets), groups.num_classes)

    @classmethod
    def explicit(cls, members: Sequence[Sequence[int]], num_classes: int) -> "LabelSets":
        """Any K label sets, as lists of class ids."""
        return cls(tuple(tuple(m) for m in members), num_classes)

    @property
    def num_experts(self) -> int:
        """K."""
        return len(self.members)

    @property
    def masks(self) -> Bool[Tensor, "experts classes"]:
        """Whether a class is in an expert's label set."""
        masks = torch.zeros(self.num_experts, self.num_classes, dtype=torch.bool)
        for i, classes in enumerate(self.members):
            masks[i, list(classes)] = True
        return masks

    @property
    def expert_of(self) -> Integer[Tensor, " classes"]:
        """Expert that dominates a class: the last one that is trained on it (y ∈ S_n, y ∉ S_{n+1}; Eq. 6)."""
        index = torch.arange(self.num_experts).unsqueeze(1)
        return index.where(self.masks, -1).amax(dim=0)

    @property
    def dominated(self) -> Bool[Tensor, "experts classes"]:
        """Whether an expert dominates a class: a partition of the classes."""
        return self.expert_of.unsqueeze(0) == torch.arange(self.num_experts).unsqueeze(1)


def mask_labels(
    target: Integer[Tensor, "n *grid"], label_set: Bool[Tensor, " classes"], ignore_index: int = 255
) -> Integer[Tensor, "n *grid"]:
    """Expert-specific label masking: labels outside the set become ``ignore_index``, all else stays.

    Args:
        target: Class ids and ``ignore_index``.
        label_set: S_i as a mask over the classes.
        ignore_index: Target value of positions without a label.

    Raises:
        DataError: See ``check_labels``.

    Source: MEDOE §3.1.
    """
    check_labels(target, len(label_set), ignore_index)
    known = target != ignore_index
    kept = label_set[target.long().where(known, 0)] & known
    return target.where(kept, ignore_index)
