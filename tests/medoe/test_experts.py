import pytest
import torch

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.medoe.experts import LabelSets, mask_labels
from support.tiny_segmentation import GROUPS


def test_nested_sets_of_eq_1():
    sets = LabelSets.from_groups(GROUPS)
    assert sets.members == ((0, 1, 2, 3, 4), (1, 2, 4), (2, 4))
    assert sets.expert_of.tolist() == [0, 1, 2, 0, 2]
    assert sets.dominated.sum(dim=0).tolist() == [1] * 5
    assert sets.dominated.tolist() == torch.from_numpy(GROUPS.masks).tolist()


def test_table_8_without_overlap():
    assert LabelSets.from_groups(GROUPS, "disjoint_tail").members == ((0, 1, 2, 3, 4), (1,), (2, 4))
    assert LabelSets.from_groups(GROUPS, "fully_disjoint").members == ((0, 3), (1,), (2, 4))
    for overlap in ("disjoint_tail", "fully_disjoint"):
        assert LabelSets.from_groups(GROUPS, overlap).expert_of.tolist() == [0, 1, 2, 0, 2]


def test_any_number_of_experts():
    sets = LabelSets.explicit([[0, 1, 2], [1, 2]], 3)
    assert sets.num_experts == 2
    assert sets.masks.tolist() == [[True] * 3, [False, True, True]]
    assert sets.expert_of.tolist() == [0, 1, 1]


def test_refusals():
    with pytest.raises(ConfigError, match=r"\[2\] are in no label set"):
        LabelSets.explicit([[0, 1]], 3)
    with pytest.raises(ConfigError, match=r"\[7\]"):
        LabelSets.explicit([[0, 1, 7]], 2)
    with pytest.raises(ConfigError, match=r"tail: .* of the 3 .* 3 head, 0 tail\n.*groups\.by rank .*'\[1, 2\]'"):
        LabelSets.from_groups(CategoryGroups.explicit({"head": [0, 1, 2], "tail": []}))
    between = CategoryGroups.explicit({"head": [0], "body": [], "tail": [1, 2]})
    with pytest.raises(ConfigError, match=r"body: .* 1 head, 0 body, 2 tail"):  # though the nested set has classes
        LabelSets.from_groups(between)
    with pytest.raises(ConfigError, match=r"'\[1, 1\]'"):  # no size 0, which would be refused again
        LabelSets.from_groups(CategoryGroups.explicit({"head": [0, 1], "body": [], "tail": []}))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_masking(dtype):
    target = torch.tensor([[0, 1, 2], [3, 4, 255]], dtype=dtype)
    sets = LabelSets.from_groups(GROUPS).masks
    assert torch.equal(mask_labels(target, sets[0]), target)
    body = mask_labels(target, sets[1])
    assert body.tolist() == [[255, 1, 2], [255, 4, 255]]
    assert torch.equal(mask_labels(body, sets[1]), body)
    assert mask_labels(target, sets[2]).tolist() == [[255, 255, 2], [255, 4, 255]]
    assert body.dtype == dtype


def test_masking_with_another_ignore_index():
    target = torch.tensor([0, 1, -1])
    assert mask_labels(target, torch.tensor([False, True]), ignore_index=-1).tolist() == [-1, 1, -1]
