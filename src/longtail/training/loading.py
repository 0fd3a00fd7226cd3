"""Training batches that depend only on (seed, phase, iteration).

Neither workers, prefetching, a resume nor the number of ranks changes which samples an iteration sees or how they are
augmented: the order is an endless stream of positions, position -> index is drawn pass by pass from a hashed seed,
and each sample is augmented on a generator seeded by its position.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, runtime_checkable

import torch
from torch.utils.data import DataLoader, Dataset

from longtail.datasets.base import Samples
from longtail.errors import ConfigError, DataError
from longtail.training.failures import Collate, attempt
from longtail.training.randomness import derive_seed, isolated_randomness

#: Position in the endless stream, and the index of the sample that stands there.
Place = tuple[int, int]


@runtime_checkable
class IndexOrder(Protocol):
    """One pass over the data: sample indices drawn from ``generator``; passes may differ in length."""

    def __call__(self, generator: torch.Generator) -> Sequence[int]: ...


def pass_length(order: IndexOrder) -> int:
    """Number of samples in one pass; for random lengths, of the draw with seed 0."""
    return len(order(torch.Generator().manual_seed(0)))


@dataclass(frozen=True)
class BatchPlan:
    """Which positions of the stream each batch of each rank takes.

    Args:
        order: One pass over the data.
        batch_size: Samples of one optimiser step, over all ranks and accumulated batches.
        accumulate: Batches of one optimiser step.
        world_size: Number of ranks.
        rank: This rank.
        iterations: Optimiser steps of the phase.
        seed: Seed of the run.
        phase: Name of the phase.
    """

    order: IndexOrder
    batch_size: int
    accumulate: int
    world_size: int
    rank: int
    iterations: int
    seed: int
    phase: str

    def __post_init__(self) -> None:
        if self.batch_size % (self.world_size * self.accumulate):
            raise ConfigError(
                f"batch size {self.batch_size} cannot be parted over {self.world_size} ranks x {self.accumulate} "
                "accumulated batches",
                fix="make loading.batch_size a multiple of their product",
            )

    @property
    def per_rank(self) -> int:
        """Samples in one batch of one rank."""
        return self.batch_size // (self.world_size * self.accumulate)

    def batches(self, start: int = 0) -> Iterator[list[Place]]:
        """Batches of this rank from optimiser step ``start`` to the end of the phase."""
        stream = self._stream(start * self.batch_size)
        lot = self.per_rank * self.world_size
        for _ in range((self.iterations - start) * self.accumulate):
            everyone = [next(stream) for _ in range(lot)]
            yield everyone[self.rank * self.per_rank : (self.rank + 1) * self.per_rank]

    def _stream(self, start: int) -> Iterator[Place]:
        """Places from position ``start`` on; earlier passes are drawn as well, since their lengths may differ."""
        begin = 0
        for number in count():
            generator = torch.Generator().manual_seed(derive_seed(self.seed, self.phase, "order", number))
            indices = self.order(generator)
            if not len(indices):
                raise DataError("there is nothing to train on: the data set is empty", fix="check folder and split")
            for offset in range(max(start - begin, 0), len(indices)):
                yield begin + offset, int(indices[offset])
            begin += len(indices)


class SeededSamples(Dataset):
    """A data set read by ``Place``: the sample of an index, augmented with the randomness of its position."""

    def __init__(self, dataset: Samples, seed: int, phase: str) -> None:
        self.dataset = dataset
        self.seed = seed
        self.phase = phase

    def __getitem__(self, place: Place) -> Any:
        position, index = place
        with isolated_randomness(self.seed, self.phase, "sample", position):
            return attempt(lambda: self.dataset[index])


def training_loader(
    dataset: Samples,
    plan: BatchPlan,
    *,
    start: int = 0,
    workers: int = 0,
    collate: Callable[[list], Any] | None = None,
    pin_memory: bool = False,
) -> DataLoader:
    """Loader of this rank's batches from optimiser step ``start`` on, to iterate over once.

    Args:
        dataset: Samples by index, augmented from the global generators.
        plan: Which positions of the stream each batch takes.
        start: Optimiser steps that are already done.
        workers: Worker processes; they do not change the batches.
        collate: List of samples -> batch; torch's own where not given.
        pin_memory: Whether batches go into page-locked memory.
    """
    return DataLoader(
        SeededSamples(dataset, plan.seed, plan.phase),
        batch_sampler=plan.batches(start),
        num_workers=workers,
        multiprocessing_context=worker_context(workers),
        collate_fn=Collate(collate),
        pin_memory=pin_memory,
        # the loader draws seeds of its workers from here: from the global generator it would shift dropout on resume
        generator=torch.Generator().manual_seed(derive_seed(plan.seed, plan.phase, "workers")),
    )


def evaluation_loader(
    dataset: Samples, indices: Sequence[int], batch_size: int = 1, workers: int = 0
) -> "DataLoader[list[tuple[int, Any]]]":
    """Loader of (index, sample) lists in the order of ``indices``; a sample that cannot be read is replaced by its error.

    Args:
        dataset: Samples by index.
        indices: Which ones.
        batch_size: Samples of one list.
        workers: Worker processes.
    """
    return DataLoader(
        _Attempted(dataset),
        batch_size,
        sampler=indices,
        num_workers=workers,
        collate_fn=list,
        multiprocessing_context=worker_context(workers),
        # a generator of its own: evaluating in the middle of a training leaves the global one alone
        generator=torch.Generator(),
    )


class _Attempted(Dataset):
    def __init__(self, dataset: Samples) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, attempt(lambda: self.dataset[index])


def worker_context(workers: int) -> str | None:
    """How worker processes start; None for the platform's way.

    Forked workers start at once, need no data set that can be pickled, and notice when their parent is killed.
    """
    return "fork" if workers and sys.platform == "linux" else None
