"""Means of per-class values over groups of classes. This module does not import torch."""

import math
from collections.abc import Sequence

import numpy as np

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups


def group_means(values: Sequence[float | None] | np.ndarray, groups: CategoryGroups) -> dict[str, float]:
    """Mean of the per-class values of every group, over the classes that have a value.

    Serves IoU and accuracy of segmentation and AP of detection alike: the overall mean is the mean of these,
    weighted with the number of classes that have a value.

    Args:
        values: C values, one per class; None and NaN mean undefined.
        groups: Partition of the C classes.

    Returns:
        Group -> mean; NaN for a group without any value.

    Raises:
        ConfigError: There is not one value for each class of the groups.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (groups.num_classes,):
        raise ConfigError(
            f"{array.size} per-class values for groups of {groups.num_classes} classes",
            fix="make the groups from the classes that were evaluated",
        )
    return {name: mean(array[list(members)]) for name, members in zip(groups.names, groups.members, strict=True)}


def mean(values: np.ndarray) -> float:
    """Mean of the values that are numbers; NaN where there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan
