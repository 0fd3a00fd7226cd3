"""Which stage of a detector is the expert of which group."""

from collections.abc import Sequence

from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups

#: Group of every stage; None for a stage that is no expert: it keeps its own loss, and no ensemble reads it.
StageMap = tuple[int | None, ...]


def map_stages(num_stages: int, groups: CategoryGroups, stage_to_group: Sequence[int | None] | None = None) -> StageMap:
    """Group of every stage.

    Args:
        num_stages: Number of stages N.
        groups: Groups of the foreground classes, rarest first.
        stage_to_group: Index of the group of every stage, 0 for the rarest, such as [0, 0, 1, 1, 2, 2]; None in the
            list for a stage that is no expert, such as [None, None, None, 0, 1, 2]. None: even parts in order, so
            that the rarest group has the first stages.

    Raises:
        ConfigError: The list has another length, a stage has a group that does not exist, a group has no stage, or the
            stages have no even parts.

    Source: MEC §3.2, where stages and groups are equal in number.
    """
    names = groups.names
    if stage_to_group is None:
        share, rest = divmod(num_stages, groups.num_groups)
        if rest:
            raise ConfigError(
                f"{groups.num_groups} groups {names} of sizes {groups.sizes} for {num_stages} stages have no even parts",
                fix=_advice(num_stages, groups.num_groups),
            )
        return tuple(group for group in range(groups.num_groups) for _ in range(share))
    found = tuple(None if group is None else int(group) for group in stage_to_group)
    if len(found) != num_stages:
        raise ConfigError(
            f"stage_to_group has {len(found)} entries {list(found)} for {num_stages} stages",
            fix="give one entry for each stage; None (null) for a stage that is no expert",
        )
    for stage, group in enumerate(found, start=1):
        if group is not None and not 0 <= group < len(names):
            raise ConfigError(
                f"stage {stage} is the expert of group {group}, but the groups are 0 … {len(names) - 1}: {names}",
                fix="give the index of a group, 0 for the rarest; None (null) for a stage that is no expert",
            )
    lacking = [name for group, name in enumerate(names) if group not in found]
    if lacking:
        raise ConfigError(
            f"stage_to_group {list(found)} leaves group {lacking[0]!r} without a stage",
            fix="give every group at least one stage",
        )
    return found


def _advice(num_stages: int, num_groups: int) -> str:
    if num_groups > num_stages:
        return "give at most as many groups as stages; for four stages the paper cuts at 10, 100 and 500 instances"
    parts = [stage * num_groups // num_stages for stage in range(num_stages)]
    return f"give as many groups as stages, or the group of every stage, such as stage_to_group {parts}"
