import math

import numpy as np
import pytest

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.metrics.group_means import group_means

GROUPS = CategoryGroups.explicit({"head": [0, 2], "body": [1], "tail": [3]})


def test_by_hand_without_values_and_empty_groups():
    groups = CategoryGroups.explicit({"rare": [1, 2], "common": [0], "frequent": []})
    means = group_means([0.5, None, 0.2], groups)
    assert means["rare"] == pytest.approx(0.2)
    assert means["common"] == 0.5
    assert math.isnan(means["frequent"])
    assert math.isnan(group_means([None, 1.0, 1.0], groups)["common"])


def test_group_means_weighted_by_size_are_the_overall_mean():
    for values in ([0.4, 0.1, 0.9, 0.3], np.array([1.0, 0.0, 0.25, 0.5])):
        means = group_means(values, GROUPS)
        weighted = sum(means[n] * s for n, s in zip(GROUPS.names, GROUPS.sizes, strict=True)) / 4
        assert weighted == pytest.approx(float(np.mean(np.asarray(values))))


def test_refuses_another_number_of_classes():
    with pytest.raises(ConfigError, match="3 per-class values"):
        group_means([1.0, 2.0, 3.0], GROUPS)
