"""``CategoryGroups``: the partition of the classes by how often they occur."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency

HEAD_BODY_TAIL = ("head", "body", "tail")
RARE_COMMON_FREQUENT = ("rare", "common", "frequent")


@dataclass(frozen=True)
class CategoryGroups:
    """A partition of the classes 0 … C-1 into named groups, in the order of the method.

    Segmentation (MEDOE) lists the most frequent group first (head, body, tail); detection (MEC) the rarest
    first, since stage k of the cascade is the expert of group k. A group may be empty.

    Args:
        names: Name of each of the G groups.
        members: Class ids of each group, ascending.
    """

    names: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "members", tuple(tuple(sorted(int(c) for c in m)) for m in self.members))
        if len(self.names) != len(self.members) or len(set(self.names)) != len(self.names):
            raise ConfigError(
                f"{len(self.names)} group names {self.names} for {len(self.members)} groups",
                fix="give every group a different name",
            )
        everyone = sorted(c for m in self.members for c in m)
        if everyone != list(range(len(everyone))):
            seen = set(everyone)
            missing = [c for c in range(max(everyone, default=-1) + 1) if c not in seen]
            twice = sorted({c for c in everyone if everyone.count(c) > 1})
            raise ConfigError(
                f"groups must hold every class id once: missing {missing}, more than once {twice}",
                fix="list each class id 0 … C-1 in exactly one group",
            )

    @property
    def num_groups(self) -> int:
        """Number of groups, G."""
        return len(self.names)

    @property
    def num_classes(self) -> int:
        """Number of classes, C."""
        return sum(self.sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of classes in each group."""
        return tuple(len(m) for m in self.members)

    @property
    def group_of(self) -> np.ndarray:
        """int64 (C,): index of the group of every class."""
        index = np.empty(self.num_classes, dtype=np.int64)
        for group, classes in enumerate(self.members):
            index[list(classes)] = group
        return index

    @property
    def masks(self) -> np.ndarray:
        """bool (G, C): whether a class is in a group."""
        return self.group_of[None, :] == np.arange(self.num_groups)[:, None]

    @property
    def rarest_first(self) -> "CategoryGroups":
        """Groups that were listed most frequent first in the order and with the names of detection."""
        names = RARE_COMMON_FREQUENT if self.num_groups == 3 else [f"group_{g + 1}" for g in range(self.num_groups)]
        return CategoryGroups(tuple(names), self.members[::-1])

    def to_dict(self) -> dict[str, list[int]]:
        """Group name -> class ids, as ``results.json`` and ``config.json`` hold it."""
        return {name: list(classes) for name, classes in zip(self.names, self.members, strict=True)}

    @classmethod
    def explicit(cls, groups: Mapping[str, Sequence[int]]) -> "CategoryGroups":
        """Groups as given: name -> class ids, in this order. Inverse of ``to_dict``."""
        return cls(tuple(groups), tuple(tuple(c) for c in groups.values()))

    @classmethod
    def by_share(
        cls,
        frequency: ClassFrequency,
        thresholds: Sequence[float] = (0.01, 0.001),
        names: Sequence[str] = HEAD_BODY_TAIL,
    ) -> "CategoryGroups":
        """Groups by the share of labelled pixels: ``>= thresholds[0]``, …, ``< thresholds[-1]``.

        Args:
            frequency: Counts of the training split.
            thresholds: G-1 shares, descending; a class on a threshold belongs to the more frequent group.
            names: G names, most frequent first.

        Source: MEDOE §A.2 (ADE20K: 1 % and 0.1 %); shares over labelled pixels, SPEC finding 1.
        """
        _check_descending("thresholds", thresholds)
        share = frequency.share("pixels")
        index = (share[:, None] < np.asarray(thresholds)[None, :]).sum(axis=1)
        return cls._from_index(index, names, len(thresholds) + 1)

    @classmethod
    def by_count(
        cls,
        counts: Sequence[int] | np.ndarray,
        edges: Sequence[float] = (10, 100),
        names: Sequence[str] = RARE_COMMON_FREQUENT,
    ) -> "CategoryGroups":
        """Groups by half-open count intervals, rarest first: ``[0, e1), [e1, e2), …, [eG-1, inf)``.

        Args:
            counts: (C,) occurrences of each class. MEC's training groups count *instances*.
            edges: G-1 ascending edges; MEC: (10, 100) for three stages, (10, 100, 500) for four.
            names: G names, rarest first.

        Source: MEC §3.2 and §6; SPEC §2.12.
        """
        if list(edges) != sorted(set(edges)):
            raise ConfigError(f"edges {tuple(edges)} do not ascend", fix="give ascending counts, each once")
        index = np.searchsorted(np.asarray(edges), np.asarray(counts), side="right")
        return cls._from_index(index, names, len(edges) + 1)

    @classmethod
    def lvis(cls, image_counts: Sequence[int] | np.ndarray) -> "CategoryGroups":
        """LVIS's evaluation groups by *image* count, bounds inclusive: rare 1-10, common 11-100, frequent > 100.

        Source: LVIS (Gupta 2019); SPEC component C1.
        """
        return cls.by_count(image_counts, edges=(11, 101))

    @classmethod
    def by_rank(
        cls, counts: Sequence[int] | np.ndarray, sizes: Sequence[int], names: Sequence[str] = HEAD_BODY_TAIL
    ) -> "CategoryGroups":
        """Groups of given sizes by descending count; of equal counts the lower class id comes first.

        Args:
            counts: (C,) occurrences of each class.
            sizes: Number of classes of each group, most frequent first; their sum is C. Cityscapes: (4, 4, 11).
            names: One name for each size.
        """
        counts = np.asarray(counts)
        if sum(sizes) != len(counts) or min(sizes, default=0) < 0:
            raise ConfigError(
                f"group sizes {tuple(sizes)} sum to {sum(sizes)}, but there are {len(counts)} classes",
                fix="give sizes >= 0 that sum to the number of classes",
            )
        index = np.empty(len(counts), dtype=np.int64)
        index[np.argsort(-counts, kind="stable")] = np.repeat(np.arange(len(sizes)), sizes)
        return cls._from_index(index, names, len(sizes))

    @classmethod
    def by_mass(
        cls,
        counts: Sequence[int] | np.ndarray,
        masses: Sequence[float] = (0.8, 0.95),
        names: Sequence[str] = HEAD_BODY_TAIL,
    ) -> "CategoryGroups":
        """Groups by cumulative share of the most frequent classes: ``masses[0]``, then ``masses[1]``, ….

        A class belongs to the group in which the mass *before* it lies, so the first group is never empty.

        Args:
            counts: (C,) occurrences of each class.
            masses: G-1 ascending cumulative shares in (0, 1).
            names: G names, most frequent first.

        Source: MEDOE Remark 1 (80 %, 15 % and 5 % of the pixels).
        """
        _check_descending("1 - masses", [1 - m for m in masses])
        counts = np.asarray(counts, dtype=np.float64)
        if counts.sum() <= 0:
            raise ConfigError("cannot group classes that never occur", fix="count the training split first")
        order = np.argsort(-counts, kind="stable")
        before = np.concatenate([[0.0], np.cumsum(counts[order])[:-1]]) / counts.sum()
        index = np.empty(len(counts), dtype=np.int64)
        index[order] = np.searchsorted(np.asarray(masses), before, side="right")
        return cls._from_index(index, names, len(masses) + 1)

    @classmethod
    def ade20k(cls, frequency: ClassFrequency) -> "CategoryGroups":
        """MEDOE's groups of ADE20K: at least 1 %, 0.1 % to 1 %, and less of the labelled training pixels.

        On ADE20K's training split these are 21 head, 55 body and 74 tail classes (80.8, 15.1 and 4.1 % of the pixels).

        Source: MEDOE §A.2; the sizes follow from the paper's tables, SPEC finding 1.
        """
        return cls.by_share(frequency, (0.01, 0.001), HEAD_BODY_TAIL)

    @classmethod
    def cityscapes(cls, frequency: ClassFrequency) -> "CategoryGroups":
        """MEDOE's groups of Cityscapes: the 4 most frequent of the 19 classes, the next 4, and the other 11.

        The paper does not say how it groups Cityscapes; these sizes are the ones that make its tables close.

        Raises:
            ConfigError: The frequency is not of 19 classes.

        Source: SPEC finding 1.
        """
        return cls.by_rank(frequency.counts("pixels"), (4, 4, 11), HEAD_BODY_TAIL)

    @classmethod
    def _from_index(cls, index: np.ndarray, names: Sequence[str], num_groups: int) -> "CategoryGroups":
        if len(names) != num_groups:
            names = (
                [f"group_{g + 1}" for g in range(num_groups)]
                if names in (HEAD_BODY_TAIL, RARE_COMMON_FREQUENT)
                else names
            )
        return cls(tuple(names), tuple(tuple(np.flatnonzero(index == g).tolist()) for g in range(num_groups)))


def _check_descending(name: str, values: Sequence[float]) -> None:
    if not values or list(values) != sorted(set(values), reverse=True) or not all(0 < v < 1 for v in values):
        raise ConfigError(f"{name} {tuple(values)} do not descend within (0, 1)", fix="give shares, largest first")
