"""Several processes: workers of the frequency pass, and ranks of a training, for ``scale.py``."""

import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

#: Numbers that ranks exchange: gradients of a step (parameters), a confusion matrix, counts of Seesaw loss.
EXCHANGED = {
    "gradients of a baseline, DeepLabv3+ on MobileNetV2 (float32)": (5_572_972, torch.float32),
    "gradients of MEDOE, 3 experts, the same (float32)": (12_636_680, torch.float32),
    "confusion matrix, 150 classes (int64)": (150 * 150, torch.int64),
    "counts of a loss, 1203 classes (int64)": (1203, torch.int64),
}


def count_with_workers() -> dict[str, Any]:
    """The frequency pass in 1 and 2 processes: wall time, and CPU time of parent and workers apart.

    What the parent does is all that does not part among the workers: images a second on n free cores are at most the
    smaller of n / (CPU of a worker an image) and 1 / (CPU of the parent an image).
    """
    from scale import RepeatedLabels

    from longtail.frequency.count_pixels import count_pixels

    images, cores = 2_000, sorted(os.sched_getaffinity(0))
    series: dict[str, dict[str, list[float]]] = {
        name: {"ms": []} for name in ("wall", "CPU of the parent", "CPU of the workers")
    }
    with tempfile.TemporaryDirectory() as folder:
        data = RepeatedLabels(large_labels(Path(folder)), images)
        for workers in (1, 2):
            wall, before, children = time.perf_counter(), time.process_time(), _children()
            count_pixels(data, workers=workers, progress=False)  # type: ignore[arg-type]
            of_parent, of_children = time.process_time() - before, _children() - children
            if workers == 1:
                of_parent, of_children = 0.0, of_parent
            for name, seconds in zip(series, (time.perf_counter() - wall, of_parent, of_children), strict=True):
                series[name]["ms"].append(round(1e3 * seconds, 1))
    return {"x": (1, 2), "images": images, "cores": cores, "load": os.getloadavg()[0], "series": series}


def large_labels(folder: Path) -> list[Path]:
    """Label maps of 512x683 in patches."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    files = [folder / f"{i}.png" for i in range(16)]
    for file in files:
        coarse = rng.integers(0, 150, (32, 43), dtype=np.uint8)
        Image.fromarray(coarse).resize((683, 512), Image.Resampling.NEAREST).save(file)
    return files


def _children() -> float:
    """CPU seconds of all finished child processes."""
    for child in multiprocessing.active_children():
        child.join()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def reduce_with_ranks() -> dict[str, Any]:
    """Sums over 2 gloo ranks of one machine (the fastest of 7), and the bytes that a ring of n ranks sends for them."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        queue = context.SimpleQueue()
        ranks = [context.Process(target=_reduce, args=(rank, folder, queue)) for rank in range(2)]
        for process in ranks:
            process.start()
        measured = queue.get()
        for process in ranks:
            process.join()
    numbers = (1, 2, 8, 64)
    series = {}
    for name, (count, dtype) in EXCHANGED.items():
        size = count * dtype.itemsize
        sent = [round(2 * (n - 1) / n * size / 2**20, 4) for n in numbers]
        series[name] = {"mib": sent, "wall_ms_of_2": measured[name], "bytes": size}
    return {"x": numbers, "series": series}


def _reduce(rank: int, folder: str, queue: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    times = {}
    for name, (count, dtype) in EXCHANGED.items():
        value, taken = torch.ones(count, dtype=dtype), []
        for _ in range(7):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(value)
            taken.append(time.perf_counter() - start)
        times[name] = round(1e3 * min(taken), 3)  # the machines are shared
    if rank == 0:
        queue.put(times)
    dist.destroy_process_group()
