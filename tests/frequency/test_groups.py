import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency

# Shares of ADE20K's 150 classes in all training pixels (objectInfo150), in units of 1e-4, as (share, classes).
ADE20K_SHARES = [1576, 1072, 878, 621, 480, 450, 398, 231, 198, 183, 181, 166, 160, 151, 118, 110, 109, 104, 104, 103]
ADE20K_SHARES += [98, 74, 67, 65, 61, 60, 53, 52, 46, 44, 44, 44, 33, 31, 30, 27, 26, 24, 24, 23, 23, 22, 22, 20]
ADE20K_SHARES += [19] * 2 + [18] * 7 + [17] * 5 + [15] * 4 + [14] * 5 + [13] * 3 + [12] * 4 + [11, 10] + [9] * 5
ADE20K_SHARES += [8] * 5 + [7] * 7 + [6] * 11 + [5] * 17 + [4] * 13 + [3] * 13 + [2] * 3


def of_pixels(pixels) -> ClassFrequency:
    return ClassFrequency(tuple(f"c{i}" for i in range(len(pixels))), np.ones(len(pixels), int), np.array(pixels))


def test_by_share_puts_a_class_on_a_threshold_into_the_more_frequent_group():
    groups = CategoryGroups.by_share(of_pixels([98_800, 1_000, 100, 99, 1]))
    assert groups.to_dict() == {"head": [0, 1], "body": [2], "tail": [3, 4]}


def test_ade20k_preset_gives_the_papers_sizes():
    assert len(ADE20K_SHARES) == 150
    frequency = of_pixels(ADE20K_SHARES)
    assert CategoryGroups.ade20k(frequency).sizes == (21, 55, 74)
    mass = [frequency.share()[list(m)].sum() for m in CategoryGroups.ade20k(frequency).members]
    assert np.round(100 * np.array(mass), 1).tolist() == [80.8, 15.1, 4.1]


def test_ade20k_shares_of_all_pixels_would_give_other_sizes():
    raw = np.array(ADE20K_SHARES)
    assert [(raw >= 100).sum(), ((raw < 100) & (raw >= 10)).sum(), (raw < 10).sum()] == [20, 56, 74]


def test_cityscapes_preset_is_by_rank_and_wants_19_classes():
    pixels = np.arange(1, 20)[::-1]
    assert CategoryGroups.cityscapes(of_pixels(pixels)).members == ((0, 1, 2, 3), (4, 5, 6, 7), tuple(range(8, 19)))
    with pytest.raises(ConfigError, match="19, but there are 3"):
        CategoryGroups.cityscapes(of_pixels([1, 2, 3]))


def test_mec_edges_are_half_open():
    groups = CategoryGroups.by_count([0, 9, 10, 99, 100, 499, 500])
    assert groups.to_dict() == {"rare": [0, 1], "common": [2, 3], "frequent": [4, 5, 6]}


def test_mec_edges_of_four_stages():
    groups = CategoryGroups.by_count([0, 9, 10, 99, 100, 499, 500], edges=(10, 100, 500))
    assert groups.members == ((0, 1), (2, 3), (4, 5), (6,))
    assert groups.names == ("group_1", "group_2", "group_3", "group_4")


def test_lvis_bounds_are_inclusive():
    groups = CategoryGroups.lvis([1, 10, 11, 100, 101])
    assert groups.to_dict() == {"rare": [0, 1], "common": [2, 3], "frequent": [4]}


def test_by_rank_breaks_ties_by_class_id():
    assert CategoryGroups.by_rank([5, 7, 5, 5], (2, 1, 1)).members == ((0, 1), (2,), (3,))


@pytest.mark.parametrize("sizes", [(1, 1), (5, 1), (-1, 5)])
def test_by_rank_wants_sizes_that_fit(sizes):
    with pytest.raises(ConfigError, match="4 classes"):
        CategoryGroups.by_rank([1, 2, 3, 4], sizes)


def test_by_mass_by_hand():
    # Descending 50, 30, 15, 4, 1: mass before each is 0, .5, .8, .95, .99.
    groups = CategoryGroups.by_mass([4, 50, 15, 1, 30])
    assert groups.to_dict() == {"head": [1, 4], "body": [2], "tail": [0, 3]}


def test_one_dominant_class_is_the_whole_head():
    assert CategoryGroups.by_mass([99, 1], names=("head", "body", "tail")).sizes == (1, 0, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda pixels: CategoryGroups.by_share(of_pixels(pixels)),
        lambda pixels: CategoryGroups.by_count(pixels),
        lambda pixels: CategoryGroups.by_mass(pixels),
        lambda pixels: CategoryGroups.by_rank(pixels, (2, 2, len(pixels) - 4)),
    ],
)
@given(st.lists(st.integers(1, 10**9), min_size=5, max_size=30, unique=True), st.randoms(use_true_random=False))
def test_a_permutation_of_the_classes_permutes_the_groups(make, pixels, random):
    order = list(range(len(pixels)))
    random.shuffle(order)
    before, after = make(pixels), make([pixels[c] for c in order])
    assert after.group_of.tolist() == before.group_of[order].tolist()
    assert sorted(c for m in after.members for c in m) == list(range(len(pixels)))


def test_masks_and_group_of_agree():
    groups = CategoryGroups.explicit({"common": [2, 0], "none": [], "rest": [1]})
    assert groups.sizes == (2, 0, 1) and groups.members[0] == (0, 2)
    assert groups.group_of.tolist() == [0, 2, 0]
    assert groups.masks.tolist() == [[True, False, True], [False] * 3, [False, True, False]]
    assert CategoryGroups.explicit(groups.to_dict()) == groups


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        ({"a": [0, 1], "b": [1]}, r"more than once \[1\]"),
        ({"a": [0], "b": [3]}, r"missing \[1, 2\]"),
        ({"a": [-1, 0]}, "once"),
    ],
)
def test_what_is_no_partition_is_refused(groups, problem):
    with pytest.raises(ConfigError, match=problem):
        CategoryGroups.explicit(groups)


def test_names_must_be_distinct_and_as_many():
    with pytest.raises(ConfigError, match="names"):
        CategoryGroups(("a", "a"), ((0,), (1,)))
    with pytest.raises(ConfigError, match="names"):
        CategoryGroups(("a",), ((0,), (1,)))
    with pytest.raises(ConfigError, match="names"):
        CategoryGroups.by_share(of_pixels([5, 5]), (0.5,), names=("one",))


@pytest.mark.parametrize("thresholds", [(0.001, 0.01), (0.1, 0.1), (1.5, 0.1), (0.1, 0)])
def test_thresholds_must_descend(thresholds):
    with pytest.raises(ConfigError, match="descend"):
        CategoryGroups.by_share(of_pixels([1, 2]), thresholds)


def test_edges_must_ascend():
    with pytest.raises(ConfigError, match="ascend"):
        CategoryGroups.by_count([1, 2], edges=(100, 10))


def test_mass_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="never occur"):
        CategoryGroups.by_mass([0, 0])
