"""What a run says: to the terminal, and to ``train.log``. Torch-free."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

#: Columns of a line of progress.
_COLUMNS = 100


class Console:
    """Speaks for one process: ranks other than the first, and quiet runs, say nothing.

    Args:
        speak: Whether to print.
        log: File that everything said is appended to.
    """

    def __init__(self, speak: bool = True, log: Path | None = None) -> None:
        self.terminal = RichConsole(quiet=not speak, highlight=False, soft_wrap=False)
        self._file: IO[str] | None = None
        self._log: RichConsole | None = None
        if log is not None:
            self._file = log.open("a", encoding="utf-8")
            self._log = RichConsole(file=self._file, width=120, no_color=True, highlight=False)

    def say(self, what: RenderableType) -> None:
        """Print a line, table or any other renderable."""
        self.terminal.print(what)
        self.note(what)

    def note(self, what: RenderableType) -> None:
        """Write to the log only."""
        if self._log is not None and self._file is not None:
            self._log.print(what)
            self._file.flush()

    def close(self) -> None:
        """Close the log."""
        if self._file is not None:
            self._file.close()
            self._file = self._log = None

    @contextmanager
    def progress(self, phase: str, total: int, done: int = 0) -> Iterator["PhaseProgress"]:
        """Show the progress of a phase: a bar on a terminal, plain lines elsewhere."""
        shown = PhaseProgress(self, phase, total, done)
        with shown.bar or nullcontext():
            yield shown


class PhaseProgress:
    """Iterations done of a phase, its losses, speed and time left.

    Args:
        console: Where to show it.
        phase: Name of the phase.
        total: Its iterations.
        done: Iterations done before.
    """

    def __init__(self, console: Console, phase: str, total: int, done: int = 0) -> None:
        self.console = console
        self.phase = phase
        self.total = total
        self.started = time.perf_counter()
        self.paused = 0.0
        self.first = done
        self.bar: Progress | None = None
        self._task: TaskID | None = None
        if console.terminal.is_terminal and not console.terminal.quiet:
            self.bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[words]}"),
                TimeRemainingColumn(),
                console=console.terminal,
                transient=True,
            )
            self._task = self.bar.add_task(phase, total=total, completed=done, words="")

    def advance(self, iteration: int) -> None:
        """Show that ``iteration`` steps are done."""
        if self.bar is not None and self._task is not None:
            self.bar.update(self._task, completed=iteration)

    def speed(self, iteration: int) -> float:
        """Iterations a second since the phase was begun or resumed, without validation."""
        return (iteration - self.first) / max(time.perf_counter() - self.started - self.paused, 1e-9)

    def report(self, iteration: int, losses: Mapping[str, float], lr: float, memory_gb: float = math.nan) -> None:
        """Say how the training goes, in one line of at most 100 columns; ``metrics.csv`` has every loss.

        Args:
            iteration: Steps done.
            losses: ``loss``, the sum, and its terms, of which those are shown that there is room for.
            lr: Learning rate.
            memory_gb: Peak memory in 10^9 bytes, where it is known.
        """
        speed = self.speed(iteration)
        memory = "" if math.isnan(memory_gb) else f"  {memory_gb:.1f} GB"
        line = f"loss {losses['loss']:.4f}  lr {lr:.2e}  {speed:.2f} it/s{memory}"
        left = duration((self.total - iteration) / speed)
        plain = f"{self.phase}  {iteration}/{self.total}  {line}  {left} left"
        for name, value in losses.items():
            term = f"  {name} {value:.3g}"
            if name == "loss" or len(losses) == 2:
                continue
            if len(plain) + len(term) > _COLUMNS:
                break
            plain += term
        if self.bar is not None and self._task is not None:
            self.bar.update(self._task, completed=iteration, words=line)
            self.console.note(plain)
        else:
            self.console.terminal.print(plain, soft_wrap=True)
            self.console.note(plain)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time that does not count as training."""
        begin = time.perf_counter()
        yield
        self.paused += time.perf_counter() - begin


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def percent(value: float | None) -> str:
    """A share in [0, 1] as it is printed in the field's tables."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.2f}"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    shown = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        shown.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*(str(cell) for cell in row))
    return shown
