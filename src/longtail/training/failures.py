"""Errors of loading workers: torch would turn them into a RuntimeError with a traceback for a message."""

from collections.abc import Callable
from typing import Any

from torch.utils.data import default_collate

from longtail.errors import LongtailError


def attempt(read: Callable[[], Any]) -> Any:
    """What ``read`` returns, or the error that a user can mend, as a value."""
    try:
        return read()
    except LongtailError as error:
        return error


class Collate:
    """Collation that hands on the first failure among the samples instead of a batch."""

    def __init__(self, collate: Callable[[list], Any] | None = None) -> None:
        self.collate = collate or default_collate

    def __call__(self, samples: list) -> Any:
        for sample in samples:
            if isinstance(sample, LongtailError):
                return sample
        return self.collate(samples)


def checked(batch: Any) -> Any:
    """The batch; raises it where it is a failure."""
    if isinstance(batch, LongtailError):
        raise batch
    return batch
