"""Counts and groups of the classes, as the settings ask for them."""

import os
from pathlib import Path
from typing import Any

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency


def frequency_cache() -> Path:
    """Folder of cached counts: ``LONGTAIL_CACHE``, else the user's cache."""
    home = os.environ.get("LONGTAIL_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "longtail"
    return Path(home) / "frequency"


def pixel_groups(settings: Any, frequency: ClassFrequency) -> CategoryGroups:
    """Groups of the classes by ``data.groups`` of a segmentation run, most frequent first.

    Raises:
        ConfigError: Explicit groups of other classes.
    """
    if settings.by == "explicit":
        return _explicit(settings.members, frequency)
    if settings.by == "rank":
        return CategoryGroups.by_rank(frequency.counts("pixels"), settings.sizes)
    if settings.by == "mass":
        return CategoryGroups.by_mass(frequency.counts("pixels"), settings.masses)
    return CategoryGroups.by_share(frequency, settings.thresholds)


def object_groups(settings: Any, frequency: ClassFrequency) -> CategoryGroups:
    """Groups of the classes by ``data.groups`` of a detection run, rarest first.

    Raises:
        ConfigError: Explicit groups of other classes.
    """
    if settings.by == "explicit":
        return _explicit(settings.members, frequency)
    if settings.by == "lvis":
        return CategoryGroups.lvis(frequency.counts("images"))
    counts = frequency.counts("images" if settings.by == "images" else "instances")
    if settings.by == "rank":
        return CategoryGroups.by_rank(counts, settings.sizes[::-1]).rarest_first
    if settings.by == "mass":
        return CategoryGroups.by_mass(counts, settings.masses).rarest_first
    return CategoryGroups.by_count(counts, settings.edges)


def _explicit(members: dict[str, list[int]], frequency: ClassFrequency) -> CategoryGroups:
    groups = CategoryGroups.explicit(members)
    if groups.num_classes != frequency.num_classes:
        raise ConfigError(
            f"data.groups.members name {groups.num_classes} classes of {frequency.num_classes}",
            fix="list every class id once",
        )
    return groups
