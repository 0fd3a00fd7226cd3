"""Class frequencies and category groups: the ground floor."""

from longtail.frequency.counts import ClassFrequency
from longtail.frequency.groups import CategoryGroups

__all__ = ["CategoryGroups", "ClassFrequency"]
