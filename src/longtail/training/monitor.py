"""What the best weights are chosen by: any number of ``results.json``. Does not import torch."""

import math
from collections.abc import Collection, Sequence
from statistics import harmonic_mean

from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups
from longtail.metrics.results import Results

_FORMS = "overall.METRIC, groups.GROUP.METRIC, harmonic.METRIC or per_class.METRIC.CLASS"


def check_monitor(
    path: str, groups: CategoryGroups, classes: Sequence[str], shown: Collection[int] | None = None
) -> None:
    """Refuse a path that no results of these groups and classes have, before anything is trained.

    Args:
        path: See ``monitored``.
        groups: Groups of the classes.
        classes: Names of the classes.
        shown: Ids of the classes that the validation images show; None where that is not known.

    Raises:
        ConfigError: It has none of the forms, or names a group or class that is unknown, or that no image shows.
    """
    part, *rest = path.split(".", 2)
    known = {"overall": 1, "harmonic": 1, "groups": 2, "per_class": 2}
    if known.get(part) != len(rest):
        raise ConfigError(f"monitor.metric is {path!r}", fix=f"give {_FORMS}, of the method's own scores")
    if part == "groups" and rest[0] not in groups.names:
        raise ConfigError(
            f"monitor.metric is {path!r}, and there is no such group", fix=f"name one of {', '.join(groups.names)}"
        )
    if part == "per_class" and rest[1] not in classes:
        raise ConfigError(f"monitor.metric is {path!r}, and there is no such class", fix="name a class of the data set")
    members: Collection[int] = ()
    if part in ("groups", "per_class"):
        named = part == "groups"
        members = groups.members[groups.names.index(rest[0])] if named else (list(classes).index(rest[1]),)
    if shown is not None and members and not set(members) & set(shown):
        raise ConfigError(
            f"monitor.metric is {path!r}, and no validation image shows such a class",
            fix="choose another number, or validate on more images",
        )


def monitored(results: Results, path: str) -> float:
    """The number of the method's own scores that a path names; higher is better.

    Args:
        results: Of a validation.
        path: ``overall.mIoU``, ``groups.tail.mAcc``, ``per_class.IoU.person``, or ``harmonic.mIoU``: the harmonic mean over
            the groups that have a value, 0 where one of them is 0.

    Raises:
        ConfigError: The validation does not measure it.
    """
    own = results.own
    part, *rest = path.split(".", 2)
    found: float | None = None
    if part == "overall":
        found = own.overall.get(rest[0])
    elif part == "groups":
        found = own.groups.get(rest[0], {}).get(rest[1])
    elif part == "per_class":
        found = dict(zip(results.class_names, own.per_class.get(rest[0], ()), strict=False)).get(rest[1])
    elif part == "harmonic":
        values = [value for group in own.groups.values() if (value := group.get(rest[0])) is not None]
        values = [value for value in values if not math.isnan(value)]
        found = harmonic_mean(values) if values else None
    if found is None or math.isnan(found):
        raise ConfigError(
            f"monitor.metric is {path!r}, which the validation does not measure",
            fix=f"choose from {', '.join(available(results)[:12])} …",
        )
    return found


def available(results: Results) -> list[str]:
    """Paths of the overall and group scores that have a value."""
    own = results.own
    pairs = [(f"overall.{name}", value) for name, value in own.overall.items()]
    pairs += [(f"groups.{g}.{name}", value) for g, of in own.groups.items() for name, value in of.items()]
    return [path for path, value in pairs if value is not None and not math.isnan(value)]
