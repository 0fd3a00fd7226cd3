"""Count edges that leave no group without objects, for data whose counts the customary edges do not fit."""

import math
from collections.abc import Sequence

import numpy as np

from longtail.frequency.groups import CategoryGroups


def propose_edges(counts: Sequence[int] | np.ndarray, num_groups: int) -> tuple[int, ...] | None:
    """Round edges for ``CategoryGroups.by_count`` that give every group a class with objects.

    The groups part the range of the counts evenly on a logarithmic scale, as far as the counts allow.

    Args:
        counts: (C,) occurrences of each class.
        num_groups: Number of groups, G.

    Returns:
        G-1 ascending edges; None where fewer than G different counts occur.
    """
    distinct = np.unique(np.asarray(counts)[np.asarray(counts) > 0]).tolist()
    if len(distinct) < num_groups:
        return None
    logs = [math.log(count) for count in distinct]
    edges, start = [], 1
    for group in range(1, num_groups):
        target = logs[0] + group / num_groups * (logs[-1] - logs[0])
        last = len(distinct) - (num_groups - group)
        place = min(range(start, last + 1), key=lambda i: abs(logs[i] - target))
        edges.append(_roundest(distinct[place - 1], distinct[place]))
        start = place + 1
    return tuple(edges)


def without_objects(groups: CategoryGroups, counts: Sequence[int] | np.ndarray) -> list[str]:
    """Names of the groups that have no class with an object."""
    counts = np.asarray(counts)
    return [n for n, m in zip(groups.names, groups.members, strict=True) if not counts[list(m)].any()]


def advice_on_edges(counts: Sequence[int] | np.ndarray, num_groups: int) -> str:
    """Edges with which every group has objects, of as many groups as the counts allow."""
    different = len(set(np.asarray(counts).tolist()) - {0})
    edges = propose_edges(counts, min(different, num_groups))
    if not edges:
        return "the classes have one count, so group by rank, or list their members"
    fewer = (
        f"make {different} groups, as the classes have {different} different counts: " if different < num_groups else ""
    )
    return f"{fewer}give edges that fit these counts, such as {list(edges)}, or group by rank"


def advice_on_sizes(num_classes: int, num_groups: int) -> str:
    """Settings of groups by rank, most frequent first, that give every group a class: fewer groups for fewer classes."""
    num_groups = min(num_groups, num_classes)
    each, more = divmod(num_classes, num_groups)
    sizes = [each + (place >= num_groups - more) for place in range(num_groups)]
    return (
        f"choose other groups, such as --data.groups.by rank --data.groups.sizes '{sizes}' (classes of each, most "
        "frequent first) or --data.groups.by mass, or other data.groups.thresholds"
    )


def _roundest(low: int, high: int) -> int:
    """The number in (low, high] with the most zeros at its end."""
    step = 10 ** len(str(high))
    while high // step * step <= low:
        step //= 10
    return high // step * step
