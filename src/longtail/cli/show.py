"""Results on the console, narrow enough for any terminal."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from longtail.metrics.results import Results
    from longtail.reports.comparison import Comparison, Entry

_BESIDE = 2  # metrics with their groups that fit beside each other into 80 columns


def show_results(runs: Sequence[str | Path]) -> None:
    """Print scores over all classes and by group, the baseline's run first; only the first rank speaks.

    What makes the comparison doubtful goes to stderr.

    Args:
        runs: Run folders or ``results.json`` files.
    """
    from rich.console import Console

    from longtail.cli.parser import say_warning
    from longtail.reports.comparison import Comparison
    from longtail.training.run_folder import environment_rank

    if environment_rank() > 0:
        return
    console = Console(highlight=False)
    comparison = Comparison.load(runs)
    metrics = comparison.group_metrics
    for first in range(0, len(metrics), _BESIDE):
        console.print(_scores(comparison, metrics[first : first + _BESIDE]))
    sizes = zip(comparison.groups.names, comparison.groups.sizes, strict=True)
    console.print(f"[dim]percent; {', '.join(f'{name} {size} classes' for name, size in sizes)}[/]")
    if comparison.groups_from:
        console.print(f"[dim]groups: {comparison.groups_from}[/]")
    if comparison.of("oracle"):
        console.print("[dim]the oracle chooses the expert by the true label: a bound, not a method[/]")
    for doubt in comparison.doubts:
        say_warning(doubt)


def save_and_show(results: "Results", out: str | None) -> None:
    """Print scores; write them where a file is named, or a folder, in which it is called ``results.json``."""
    with tempfile.TemporaryDirectory() as scratch:
        results.save(Path(scratch) / "results.json")
        show_results([scratch])  # first: they are not lost where the file cannot be written
    if out:
        path = Path(out)
        results.save(path / "results.json" if path.is_dir() else path)


@contextmanager
def counting(words: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; what it gives is called with the number of things done."""
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task(words, total=total)
        yield lambda done: bar.update(task, completed=done)


def show_demo(halves: Mapping[str, Sequence[Path]], out: Path, seed: int, began: float) -> None:
    """Print the scores of a demo, write its report into ``out``, and say how long it took since ``began``.

    Args:
        halves: Task -> run folders, the baseline first.
        out: Folder of the report.
        seed: Of all runs.
        began: ``time.monotonic()`` at the start.
    """
    import time

    from rich.console import Console

    from longtail.reports.html import write_report
    from longtail.training.console import duration

    console = Console(highlight=False, soft_wrap=True)
    for task, runs in halves.items():
        console.print(f"\n[bold]{task} on synthetic scenes, seed {seed}[/]")
        show_results(runs)
    console.print("[dim]one run of each method, settings chosen on the same scenes: an illustration, not evidence[/]")
    report = write_report([run for runs in halves.values() for run in runs], out / "report.html")
    console.print(f"\n[bold]report[/]    {report.resolve()}")
    console.print(f"[bold]time[/]      {duration(time.monotonic() - began)}")


def _scores(comparison: "Comparison", metrics: list[str]) -> "Table":
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("")
    columns = [(metric, group) for metric in metrics for group in ("all", *comparison.groups.names)]
    for metric, group in columns:
        shown.add_column(f"{metric}\n{group}" if group == "all" else f"\n{group}", justify="right", no_wrap=True)
    baseline = comparison.baseline
    for entry in comparison.entries:
        values = [_value(entry, metric, group) for metric, group in columns]
        if all(value is None for value in values):
            continue
        style = {"baseline": "bold", "method": "bold", "oracle": "dim", "expert": "dim"}.get(entry.role)
        shown.add_row(entry.label, *("–" if v is None else f"{100 * v:.2f}" for v in values), style=style)
        if baseline is not None and entry.role == "method":
            before = [_value(baseline, metric, group) for metric, group in columns]
            shown.add_row(f"  to {baseline.label}", *(_gain(a, b) for a, b in zip(values, before, strict=True)))
    return shown


def _value(entry: "Entry", metric: str, group: str) -> float | None:
    scores = entry.prediction.overall if group == "all" else entry.prediction.groups.get(group, {})
    return scores.get(metric)


def _gain(after: float | None, before: float | None) -> str:
    if after is None or before is None:
        return "–"
    gain = 100 * (after - before)
    return f"[{'green' if gain >= 0.005 else 'red' if gain <= -0.005 else 'dim'}]{gain:+.2f}[/]"
