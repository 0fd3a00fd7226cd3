"""Keep glibc from giving large blocks back to the system after every use."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let malloc reuse large blocks, on Linux with glibc; elsewhere nothing happens.

    By default every tensor past 32 MB is mapped again, and each of its pages faulted in and cleared, at every use. A
    training step on a CPU makes dozens of them: see `benchmarks/allocator.py` for what that costs. The price is memory
    that stays with the process until it ends.

    Returns:
        Whether the setting was taken.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST))
    except (OSError, AttributeError):
        return False
