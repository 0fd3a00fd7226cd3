"""What evaluations of both tasks have in common."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from longtail.datasets.base import Samples
from longtail.datasets.photographs import PhotoFormat
from longtail.distributed import is_main_process, rank, world_size
from longtail.errors import ConfigError, DataError
from longtail.progress import with_progress
from longtail.training.config import positive
from longtail.training.failures import checked
from longtail.training.loading import evaluation_loader


def chosen_readouts(known: Sequence[str], wanted: Iterable[str] | None) -> list[str]:
    """Names of the readouts wanted; all where none are named.

    Raises:
        ConfigError: There is no such readout.
    """
    names = list(known if wanted is None else wanted)
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no readout {name!r}", fix=f"choose from {', '.join(known)}")
    return names or list(known[:1])


def limited(dataset: Any, limit: int | None) -> int:
    """Number of images that are used of a data set.

    Raises:
        ConfigError: A limit below 1.
    """
    positive("limit", limit)
    return len(dataset) if limit is None else min(len(dataset), limit)


def share_of_rank(
    dataset: Samples, size: int, batch_size: int, workers: int, progress: bool
) -> Iterator[list[tuple[int, Any]]]:
    """This rank's share of the first ``size`` samples, in lists of (index, sample).

    Args:
        dataset: Samples by index.
        size: Number of samples that all ranks look at together.
        batch_size: Samples of one list.
        workers: Worker processes.
        progress: Show a bar on a terminal, on the first rank.

    Raises:
        DataError: A sample cannot be read.
    """
    own = range(rank(), size, world_size())
    batches: Iterable[list] = evaluation_loader(dataset, own, batch_size, workers)
    shown = progress and is_main_process()
    for batch in with_progress(batches, len(own), "evaluating", shown=shown, size=len):
        yield [(index, checked(sample)) for index, sample in batch]


@contextmanager
def evaluating(method: nn.Module) -> Iterator[None]:
    """A method in evaluation mode, as it was afterwards."""
    training = method.training
    method.eval()
    try:
        yield
    finally:
        method.train(training)


def check_same_photos(dataset: object, photos: PhotoFormat) -> None:
    """Refuse photographs that are read in another way than those that a model was trained on.

    Raises:
        DataError: Bands, range or pages differ.
    """
    read = getattr(dataset, "photos", None)
    if read is not None and read != photos:
        raise DataError(
            f"the data set reads photographs as {read.options() or 'RGB bytes'}, the model reads "
            f"{photos.options() or 'RGB bytes'}",
            fix="open the data set with photos=model.photos",
        )


def check_same_classes(who: str, names: Sequence[str], other: str, others: Sequence[str], *, fix: str) -> None:
    """Refuse other classes, or the same in another order.

    Args:
        who: Whose ``names`` they are, in the error.
        names: Names of classes, in order.
        other: Whose ``others`` they are.
        others: The names that they should equal.
        fix: The way out.

    Raises:
        DataError: They differ; names the first difference.
    """
    if tuple(names) != tuple(others):
        unlike = [i for i, (a, b) in enumerate(zip(names, others, strict=False)) if a != b]
        first = f"; class {unlike[0]} is {names[unlike[0]]!r} and {others[unlike[0]]!r}" if unlike else ""
        raise DataError(f"{who} has {len(names)} classes and {other} {len(others)}{first}", fix=fix)
