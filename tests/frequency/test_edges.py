import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.frequency import CategoryGroups
from longtail.frequency.edges import advice_on_edges, propose_edges, without_objects


def test_by_hand() -> None:
    # the range 1 … 900 is parted at 9.7 and 93 on a logarithmic scale; 12 is the nearest count to the first, 40 is
    # nearer to the second than 250; 10 is the roundest number in (3, 12], 40 in (12, 40]
    assert propose_edges([900, 1, 40, 12, 3, 250], 3) == (10, 40)
    assert propose_edges([5, 5, 7], 2) == (7,)
    assert propose_edges([99, 101], 2) == (100,)
    assert propose_edges([1, 2, 3, 4], 4) == (2, 3, 4)


def test_too_few_counts() -> None:
    assert propose_edges([5, 5, 0], 2) is None
    assert "one count, so group by rank" in advice_on_edges([5, 5, 0], 2)
    assert "make 2 groups" in (advice := advice_on_edges([5, 7, 0], 3)) and "such as [7]" in advice
    assert "such as [7]" in advice_on_edges([5, 7], 2)


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=60), st.integers(2, 5))
def test_every_group_has_objects(counts: list[int], num_groups: int) -> None:
    edges = propose_edges(counts, num_groups)
    if edges is None:
        assert len({c for c in counts if c}) < num_groups
        return
    groups = CategoryGroups.by_count(counts, edges)
    assert groups.num_groups == num_groups and not without_objects(groups, counts)


@pytest.mark.parametrize(("counts", "names"), [([0, 5, 500], ["rare"]), ([1, 2, 3], ["common", "frequent"])])
def test_groups_without_objects(counts: list[int], names: list[str]) -> None:
    groups = CategoryGroups.by_count(np.array(counts), (2, 100) if counts[0] == 0 else (10, 100))
    assert without_objects(groups, counts) == names
