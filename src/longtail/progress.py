"""How far a long loop is, on stderr."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 10.0


def with_progress(
    items: Iterable[Item], total: int, words: str, *, shown: bool = True, size: Callable[[Item], int] = lambda _: 1
) -> Iterator[Item]:
    """Pass the items through; show a bar on a terminal, and a line every ten seconds elsewhere.

    Args:
        items: The items.
        total: Their sizes summed.
        words: What is done with them.
        shown: Whether to show anything.
        size: Size of an item; each counts as one unless this says otherwise.
    """
    if shown and sys.stderr.isatty():
        yield from _with_bar(items, total, words, size)
        return
    begin = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += size(item)
        if shown and time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            sys.stderr.write(f"{words}: {done} of {total}, {_rate(done / (last - begin))}\n")


def _rate(speed: float) -> str:
    return f"{speed:.{0 if speed >= 10 else 2}f} a second"


def _with_bar(items: Iterable[Item], total: int, words: str, size: Callable[[Item], int]) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(words),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(words, total=total, rate="")
        for item in items:
            yield item
            bar.advance(task, size(item))
            speed = bar.tasks[0].speed
            bar.update(task, rate=_rate(speed) if speed else "")
