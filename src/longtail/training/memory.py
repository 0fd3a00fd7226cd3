"""Peak memory of training."""

import sys

import torch


def begin_peak(device: torch.device) -> None:
    """Measure the peak from here on; on a CPU it is the peak of the whole process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gb(device: torch.device) -> float:
    """Peak memory in 10^9 bytes.

    On a GPU what torch's allocator held at once. On a CPU, where torch does not count, the largest resident memory of
    the process, libraries and loaded images included; NaN where the system does not tell.

    Args:
        device: Where the model is trained.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
