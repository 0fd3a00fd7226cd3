import numpy as np
import pytest
import torch
from torch import Tensor

from longtail.ensembles.alignment import GroupLayout, align_groups
from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups

GROUPS = CategoryGroups(("rare", "common", "frequent"), ((0, 3, 6), (1, 2), (4, 5)))
RANGES = CategoryGroups(("rare", "common", "frequent"), ((0, 1, 2), (3, 4), (5, 6)))


def by_index(logits: Tensor, groups: CategoryGroups, background: str) -> Tensor:
    """Eq. 3 with an index for each group."""
    aligned = logits.clone()
    members = [list(m) for m in groups.members]
    if background == "last_group":
        members[-1] = [*members[-1], groups.num_classes]
    for index in members:
        if index:
            aligned[:, index] = logits[:, index] - logits[:, index].mean(1, keepdim=True)
    if background == "relative":
        aligned[:, -1] = logits[:, -1] - logits[:, :-1].mean(1)
    if background == "singleton":
        aligned[:, -1] = 0
    return aligned


def test_value_by_hand() -> None:
    groups = CategoryGroups(("a", "b"), ((0, 2), (1,)))
    aligned = align_groups(torch.tensor([[1.0, 5.0, 3.0, 9.0]]), groups)
    assert aligned.tolist() == [[-1.0, 0.0, 1.0, 6.0]]
    assert align_groups(torch.tensor([[1.0, 5.0, 3.0, 9.0]]), groups, "exclude").tolist() == [[-1.0, 0.0, 1.0, 9.0]]


@pytest.mark.parametrize("background", ["exclude", "relative", "last_group", "singleton", "exempt"])
@pytest.mark.parametrize("groups", [GROUPS, RANGES, CategoryGroups(("a", "b"), ((), tuple(range(7))))])
def test_slices_equal_an_index_per_group(groups: CategoryGroups, background: str) -> None:
    logits = torch.randn(20, 8, dtype=torch.float64) * 5
    assert torch.allclose(align_groups(logits, groups, background), by_index(logits, groups, background), atol=1e-14)


@pytest.mark.parametrize("groups", [GROUPS, RANGES])
def test_split_then_join_is_the_identity(groups: CategoryGroups) -> None:
    logits = torch.randn(2, 5, 9)
    layout = GroupLayout(groups)
    parts, rest = layout.split(logits)
    assert [p.shape[2] for p in parts] == [3, 2, 2] and rest.shape[2] == 2
    assert torch.equal(layout.join([p[1] for p in parts], rest[1]), logits[1])


@pytest.mark.parametrize("background", ["exclude", "relative", "last_group"])
def test_what_alignment_keeps_and_forgets(background: str) -> None:
    logits = torch.randn(9, 8, dtype=torch.float64)
    aligned = align_groups(logits, GROUPS, background)
    for members in GROUPS.members[:2]:
        index = list(members)
        assert aligned[:, index].mean(1).abs().max() < 1e-15
        difference = (logits[:, index] - logits[:, index[:1]]) - (aligned[:, index] - aligned[:, index[:1]])
        assert difference.abs().max() < 1e-14
    if background != "relative":  # which compares the background with logits that are 0 on average once aligned
        assert torch.allclose(align_groups(aligned, GROUPS, background), aligned, atol=1e-14)
    shifted = logits.clone()
    shifted[:, [0, 3, 6]] += 11.0  # a constant of one group
    assert torch.allclose(align_groups(shifted, GROUPS, background)[:, :7], aligned[:, :7], atol=1e-13)


def test_invariant_by_default_and_the_background_untouched_where_excluded() -> None:
    logits = torch.randn(9, 8, dtype=torch.float64)
    assert torch.allclose(align_groups(logits + 4.0, GROUPS), align_groups(logits, GROUPS), atol=1e-13)
    excluded = align_groups(logits, GROUPS, "exclude")
    assert torch.equal(excluded[:, 7], logits[:, 7])
    assert not torch.allclose(align_groups(logits + 4.0, GROUPS, "exclude"), excluded)
    assert align_groups(logits, GROUPS, "singleton")[:, 7].eq(0).all()


def test_refuses_logits_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="logits for 7 classes"):
        align_groups(torch.zeros(1, 6), GROUPS)
    with pytest.raises(ConfigError, match="logits for 7 classes"):
        align_groups(torch.zeros(1, 9), GROUPS, "last_group")


def test_more_logits_than_classes_and_none() -> None:
    assert align_groups(torch.ones(1, 9), GROUPS, "exclude").tolist() == [[0.0] * 7 + [1.0, 1.0]]
    assert align_groups(torch.ones(1, 9), GROUPS).tolist() == [[0.0] * 9]
    assert align_groups(torch.ones(1, 7), GROUPS).tolist() == [[0.0] * 7]


def test_large_vocabulary() -> None:
    rng = np.random.default_rng(0)
    groups = CategoryGroups.by_count(rng.integers(0, 300, 1203))
    logits = torch.randn(4, 1204)
    assert torch.allclose(align_groups(logits, groups), by_index(logits, groups, "relative"), atol=1e-5)
