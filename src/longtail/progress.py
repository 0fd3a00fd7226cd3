"""How far a long loop is, on stderr."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 10.0


def with_progress(items: Iterable[Item], total: int, words: str, *, shown: bool = True) -> Iterator[Item]:
    """Pass the items through; show a bar on a terminal, and a line every ten seconds elsewhere.

    Args:
        items: The items.
        total: Their number.
        words: What is done with them.
        shown: Whether to show anything.
    """
    if shown and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(items, words, total, console=Console(stderr=True), transient=True)
        return
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if shown and time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            sys.stderr.write(f"{words}: {done} of {total}\n")
