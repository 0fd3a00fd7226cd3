"""Side-by-side measurement: all sides in one process, alternating, one pinned thread, medians, peak memory, JSON out.

Times are of the process (CPU seconds of one thread), since the machines are shared. ``allocator="kept"`` lets malloc reuse
large blocks (the honest ratio of the arithmetic); ``"default"`` leaves glibc as users find it.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Collection
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # before torch: its profiler is talkative

import torch

from longtail.training.allocator import keep_freed_memory

RESULTS = Path(__file__).parent / "results"


def measure(
    name: str,
    sides: dict[str, Callable[[], Any]],
    *,
    note: str = "",
    repeats: int = 7,
    floor: str | None = None,
    allocator: str = "kept",
    memory: Callable[[Callable[[], Any]], int] | dict[str, int] | None = None,
) -> dict[str, Any]:
    """Measure the sides of one comparison and write ``results/NAME.json``.

    Args:
        name: Name of the row.
        sides: What to compare; the first is the peer that the others are measured against.
        note: What is measured, in a sentence.
        repeats: Alternating rounds after one to warm up.
        floor: The side that nothing can beat, such as reading the files alone.
        allocator: ``kept`` or ``default``.
        memory: Measures a side's peak bytes, or these bytes by side where it was measured elsewhere; None for what torch
            held.
    """
    if allocator == "kept":
        keep_freed_memory()
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {side: [] for side in sides}
    for round_ in range(repeats + 1):
        for side, run in sides.items():
            gc.collect()
            start = time.process_time()
            run()
            elapsed = time.process_time() - start
            if round_:
                times[side].append(elapsed)
    peaks = memory if isinstance(memory, dict) else {s: (memory or torch_peak)(run) for s, run in sides.items()}
    return write(name, times, peaks, note=note, floor=floor, allocator=allocator)


def write(
    name: str,
    times: dict[str, list[float]],
    peaks: dict[str, int],
    *,
    note: str = "",
    floor: str | None = None,
    allocator: str = "kept",
) -> dict[str, Any]:
    """Write ``results/NAME.json`` from the seconds of every run of every side, and each side's peak bytes."""
    peer = next(iter(times))
    medians = {side: statistics.median(values) for side, values in times.items()}
    record = {
        "name": name,
        "note": note,
        "peer": peer,
        "floor": floor,
        "milliseconds": {side: round(1e3 * value, 3) for side, value in medians.items()},
        "spread": {side: [round(1e3 * min(v), 3), round(1e3 * max(v), 3)] for side, v in times.items()},
        "times_faster": {side: round(medians[peer] / value, 2) for side, value in medians.items()},
        "peak_mib": {side: round(peaks.get(side, 0) / 2**20, 1) for side in times},
        "allocator": allocator,
        "repeats": min(map(len, times.values())),
        "machine": machine(),
        "date": date.today().isoformat(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    _print(record)
    return record


def torch_peak(run: Callable[[], Any]) -> int:
    """Most bytes that torch held at once during a call; numpy and files are not counted."""
    with torch.profiler.profile(profile_memory=True) as profile:
        run()
    held = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def numpy_peak(run: Callable[[], Any]) -> int:
    """Most bytes that numpy and Python held at once during a call."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def resident_growth(run: Callable[[], Any]) -> int:
    """By how many bytes a call raises what the process has in memory at most; for processes that do nothing else.

    Whatever the process freed before and kept is not counted: call it once, early, in a process of its own.
    """
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    run()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        model = next((line.split(":")[1].strip() for line in info.open() if line.startswith("model name")), model)
    return {"cpu": model, "threads": 1, "python": platform.python_version(), "torch": torch.__version__}


def _print(record: dict[str, Any]) -> None:
    sys.stdout.write(f"\n{record['name']}: {record['note']}\n")
    for side, milliseconds in record["milliseconds"].items():
        ratio, memory = record["times_faster"][side], record["peak_mib"][side]
        sys.stdout.write(f"  {side:40s} {milliseconds:10.2f} ms  {ratio:7.2f}x  {memory:8.1f} MiB\n")


def measure_each(description: str, names: Collection[str], run: Callable[[str, int, str], None]) -> None:
    """Command line of a benchmark of several rows: ``run(name, repeats, allocator)`` of each, or of those asked for."""
    parser = arguments(description)
    parser.add_argument("--only", choices=names, nargs="*", default=list(names), help="what to measure")
    options = parser.parse_args()
    for name in options.only:
        run(name, options.repeats, options.allocator)


def arguments(description: str) -> argparse.ArgumentParser:
    """Options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=7, help="alternating rounds")
    parser.add_argument("--allocator", choices=("kept", "default"), default="kept", help="see harness.py")
    return parser
