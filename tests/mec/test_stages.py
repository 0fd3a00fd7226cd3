import pytest
import torch

from longtail.ensembles.sparse import SparseEnsemble
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.mec.model import named_ensembles, stage_experts
from longtail.mec.stages import map_stages

THREE = CategoryGroups(("rare", "common", "frequent"), ((2,), (0, 3), (1,)))
TWO = CategoryGroups(("rare", "frequent"), ((2, 3), (0, 1)))


def test_even_parts_with_the_rarest_group_first() -> None:
    assert map_stages(3, THREE) == (0, 1, 2)
    assert map_stages(6, THREE) == (0, 0, 1, 1, 2, 2)
    assert map_stages(6, THREE, [None, None, None, 2, 1, 0]) == (None, None, None, 2, 1, 0)


@pytest.mark.parametrize(
    ("stages", "groups", "given", "said"),
    [
        (3, TWO, None, r"2 groups .* for 3 stages have no even parts\n.*stage_to_group \[0, 0, 1\]"),
        (2, THREE, None, "3 groups .* for 2 stages have no even parts\n.*at most as many groups as stages"),
        (3, THREE, [0, 1], r"2 entries \[0, 1\] for 3 stages"),
        (3, THREE, [0, 1, 3], "stage 3 is the expert of group 3"),
        (3, THREE, [0, -1, 2], "stage 2 is the expert of group -1"),
        (4, THREE, [0, 0, 2, None], "leaves group 'common' without a stage"),
    ],
)
def test_what_has_no_stage_or_no_group_is_said(stages, groups, given, said) -> None:
    with pytest.raises(ConfigError, match=said):
        map_stages(stages, groups, given)


def test_facts_of_several_stages_for_a_group() -> None:
    experts = stage_experts(THREE, stages=(0, None, 1, 2, 2))
    assert experts.num_experts == 4 and experts.expert_groups == (0, 1, 2, 2)
    assert experts.own_classes.int().tolist() == [[0, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 1, 0, 0, 0]]
    assert experts.label_sets[:, -1].all()


def test_sparse_takes_the_mean_of_a_groups_stages() -> None:
    logits = torch.randn(4, 5, 5)
    found = SparseEnsemble(THREE, expert_groups=(0, 2, 1, 2), align=False)(logits)
    wanted = torch.stack(
        [
            logits[2, :, 0],
            (logits[1, :, 1] + logits[3, :, 1]) / 2,
            logits[0, :, 2],
            logits[2, :, 3],
            logits[..., 4].mean(0),
        ],
        dim=1,
    )
    assert torch.allclose(found, wanted.softmax(1))


def test_a_stage_that_is_no_expert_is_not_read() -> None:
    logits = torch.randn(4, 5, 5)
    ensembles = named_ensembles({"dynamic": "dynamic", "sparse": "sparse"}, THREE, stages=(None, 0, 1, 2))
    plain = named_ensembles({"dynamic": "dynamic", "sparse": "sparse"}, THREE)
    for name, ensemble in ensembles.items():
        assert torch.equal(ensemble(logits), plain[name](logits[1:]))
