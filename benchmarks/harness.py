"""Side-by-side measurement: all sides in one process, alternating, one pinned thread, medians, peak memory, JSON out.

Times are of the process (CPU seconds of one thread), since the machines are shared. ``allocator="kept"`` lets malloc reuse
large blocks (the honest ratio of the arithmetic); ``"default"`` leaves glibc as users find it. On a GPU times are of the
wall, until the device is done, and memory is what its allocator held on top of what was there.
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

RESULTS = Path(os.environ.get("LONGTAIL_BENCHMARK_RESULTS", Path(__file__).parent / "results"))


def measure(
    name: str,
    sides: dict[str, Callable[[], Any]],
    options: argparse.Namespace,
    *,
    note: str = "",
    floor: str | None = None,
    memory: Callable[[Callable[[], Any]], int] | dict[str, int] | None = None,
    **changed: Any,
) -> dict[str, Any]:
    """Measure the sides of one comparison and write ``results/NAME.json``, or ``results/gpu/NAME.json``.

    Args:
        name: Name of the row.
        sides: What to compare; the first is the peer that the others are measured against.
        options: Of the command line: ``repeats`` (alternating rounds after one to warm up), ``allocator``, ``device``.
        note: What is measured, in a sentence.
        floor: The side that nothing can beat, such as reading the files alone.
        memory: Measures a side's peak bytes, or these bytes by side where it was measured elsewhere; None for what torch
            held.
        changed: Options that differ here.
    """
    chosen = {"device": "cpu", **vars(options), **changed}
    if chosen["allocator"] == "kept":
        keep_freed_memory()
    torch.set_num_threads(1)
    gpu = chosen["device"] != "cpu"
    clock = _clock_of_device if gpu else time.process_time
    times: dict[str, list[float]] = {side: [] for side in sides}
    for round_ in range(chosen["repeats"] + 1):
        for side, run in sides.items():
            gc.collect()
            start = clock()
            run()
            elapsed = clock() - start
            if round_:
                times[side].append(elapsed)
    default = gpu_peak if gpu else torch_peak
    peaks = memory if isinstance(memory, dict) else {s: (memory or default)(run) for s, run in sides.items()}
    return write(name, times, peaks, note=note, floor=floor, allocator=chosen["allocator"], gpu=gpu)


def write(
    name: str,
    times: dict[str, list[float]],
    peaks: dict[str, int],
    *,
    note: str = "",
    floor: str | None = None,
    allocator: str = "kept",
    gpu: bool = False,
) -> dict[str, Any]:
    """Write a result's file from the seconds of every run of every side, and each side's peak bytes."""
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
        "machine": machine(gpu),
        "date": date.today().isoformat(),
    }
    folder = RESULTS / "gpu" if gpu else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
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


def gpu_peak(run: Callable[[], Any]) -> int:
    """Most bytes that the GPU's allocator held at once during a call, on top of what it held before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _clock_of_device() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


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


def machine(gpu: bool = False) -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        model = next((line.split(":")[1].strip() for line in info.open() if line.startswith("model name")), model)
    card = {"gpu": torch.cuda.get_device_name()} if gpu else {}
    return {"cpu": model, **card, "threads": 1, "python": platform.python_version(), "torch": torch.__version__}


def _print(record: dict[str, Any]) -> None:
    sys.stdout.write(f"\n{record['name']}: {record['note']}\n")
    for side, milliseconds in record["milliseconds"].items():
        ratio, memory = record["times_faster"][side], record["peak_mib"][side]
        sys.stdout.write(f"  {side:40s} {milliseconds:10.2f} ms  {ratio:7.2f}x  {memory:8.1f} MiB\n")


def measure_each(description: str, names: Collection[str], run: Callable[[str, argparse.Namespace], None]) -> None:
    """Command line of a benchmark of several rows: ``run(name, options)`` of each, or of those asked for."""
    parser = arguments(description, gpu=True)
    parser.add_argument("--only", choices=names, nargs="*", default=list(names), help="what to measure")
    options = parser.parse_args()
    for name in options.only:
        run(name, options)


def arguments(description: str, *, gpu: bool = False) -> argparse.ArgumentParser:
    """Options that every benchmark has; those that can run on a GPU have ``--device``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=7, help="alternating rounds")
    parser.add_argument("--allocator", choices=("kept", "default"), default="kept", help="see harness.py")
    if gpu:
        parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute")
    return parser
