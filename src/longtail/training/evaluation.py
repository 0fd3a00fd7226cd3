"""What evaluations of both tasks have in common."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from longtail.datasets.base import DetectionDataset, Samples, SegmentationDataset
from longtail.distributed import is_main_process, rank, world_size
from longtail.errors import DataError
from longtail.frequency import ClassFrequency
from longtail.models.pretrained import PretrainedModel
from longtail.progress import with_progress
from longtail.settings import one_of
from longtail.training.config import positive
from longtail.training.failures import checked
from longtail.training.loading import evaluation_loader


def chosen_readouts(known: Sequence[str], wanted: Iterable[str] | None) -> list[str]:
    """Names of the readouts wanted; all where none are named.

    Raises:
        ConfigError: There is no such readout.
    """
    names = [one_of("readout", name, known) for name in (known if wanted is None else wanted)]
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


def counts_for(
    model: nn.Module, dataset: SegmentationDataset | DetectionDataset, frequency: ClassFrequency | None
) -> ClassFrequency | None:
    """Counts of the training split in the order of a data set's classes; a trained model's own where none are given.

    Raises:
        DataError: The trained model was trained on other classes, or on photographs that were read in another way.
    """
    if isinstance(model, PretrainedModel):
        fix = "evaluate on a data set of the same classes in the same order (config.json names them)"
        check_same_classes("the data set", dataset.classes.names, "the model", model.class_names, fix=fix)
        if dataset.photos is not None and dataset.photos != model.photos:
            raise DataError(
                f"the data set reads photographs as {dataset.photos.options() or 'RGB bytes'}, the model reads "
                f"{model.photos.options() or 'RGB bytes'}",
                fix="open the data set with photos=model.photos",
            )
        frequency = frequency or model.frequency
    return None if frequency is None else frequency.in_order_of(dataset.classes.names, "the data set")


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
