# ruff: noqa: NPY002 (numpy's global generator is what users' transforms draw from)
import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from longtail.errors import ConfigError, DataError
from longtail.samplers.shuffled import Shuffled
from longtail.training.loading import BatchPlan, training_loader


def plan(**changes) -> BatchPlan:
    settings = {
        "order": Shuffled(10),
        "batch_size": 4,
        "accumulate": 1,
        "world_size": 1,
        "rank": 0,
        "iterations": 12,
        "seed": 0,
        "phase": "train",
    }
    return BatchPlan(**{**settings, **changes})


class Growing:
    """Passes of 1, 2, 3, … samples, as repeat-factor sampling has passes of different lengths."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, generator: torch.Generator) -> list[int]:
        self.calls += 1
        return torch.randint(
            0, 5, (1 + int(torch.randint(0, 6, (1,), generator=generator)),), generator=generator
        ).tolist()


class Noise(Dataset):
    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index, torch.rand(()), np.random.rand()])


def test_every_sample_comes_once_in_each_pass():
    places = list(itertools.chain(*plan(iterations=5).batches()))
    assert [position for position, _ in places] == list(range(20))
    for begin in (0, 10):
        assert sorted(index for _, index in places[begin : begin + 10]) == list(range(10))
    assert [i for _, i in places[:10]] != [i for _, i in places[10:]]


@pytest.mark.parametrize("order", [Shuffled(10), Growing()])
@pytest.mark.parametrize("start", [0, 1, 2, 5, 11, 12])
def test_starting_late_continues_the_same_stream(order, start):
    assert list(plan(order=order).batches(start)) == list(plan(order=order).batches())[start:]


@pytest.mark.parametrize(("world_size", "accumulate"), [(2, 1), (4, 1), (1, 2), (2, 2)])
def test_ranks_and_accumulated_batches_part_the_step_of_one_rank(world_size, accumulate):
    alone = list(plan().batches())
    parts = [list(plan(world_size=world_size, accumulate=accumulate, rank=r).batches()) for r in range(world_size)]
    for step, expected in enumerate(alone):
        lots = range(step * accumulate, (step + 1) * accumulate)
        assert [place for lot in lots for rank in parts for place in rank[lot]] == expected


def test_phases_and_seeds_have_unrelated_orders():
    orders = [[i for b in plan(**c).batches() for _, i in b] for c in ({}, {"phase": "ensemble"}, {"seed": 1})]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_a_batch_that_cannot_be_parted_is_refused():
    with pytest.raises(ConfigError, match="3 ranks x 1"):
        plan(world_size=3)


def test_no_data_is_refused():
    with pytest.raises(DataError, match="empty"):
        list(plan(order=Shuffled(0)).batches())


def test_augmentation_is_a_function_of_the_position_alone():
    def batches(workers: int, start: int = 0) -> list[torch.Tensor]:
        return list(training_loader(Noise(), plan(iterations=6), workers=workers, start=start))

    alone = batches(0)
    assert all(torch.equal(a, b) for a, b in zip(alone, batches(2), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(alone[4:], batches(0, start=4), strict=True))
    draws = torch.cat(alone)
    assert len(draws[:, 1].unique()) == len(draws) == len(draws[:, 2].unique())


def test_loading_leaves_the_global_generators_alone():
    torch.manual_seed(0), np.random.seed(0)
    expected = torch.rand(2), np.random.rand(2)
    torch.manual_seed(0), np.random.seed(0)
    list(training_loader(Noise(), plan()))
    assert torch.equal(torch.rand(2), expected[0]) and (np.random.rand(2) == expected[1]).all()
