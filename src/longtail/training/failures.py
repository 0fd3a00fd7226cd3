"""Pass errors of loading workers on as values; torch would turn them into a RuntimeError with a traceback as message."""

from collections.abc import Callable
from typing import Any

from torch.utils.data import default_collate

from longtail.errors import LongtailError


def attempt(read: Callable[[], Any]) -> Any:
    """Result of ``read``, or its error as a value if a user can correct it."""
    try:
        return read()
    except LongtailError as error:
        return error


class Collate:
    """Collate samples; return the first failure among them instead of a batch."""

    def __init__(self, collate: Callable[[list], Any] | None = None) -> None:
        self.collate = collate or default_collate

    def __call__(self, samples: list) -> Any:
        for sample in samples:
            if isinstance(sample, LongtailError):
                return sample
        return self.collate(samples)


def checked(batch: Any) -> Any:
    """Return the batch; raise it if it is a failure."""
    if isinstance(batch, LongtailError):
        raise batch
    return batch
