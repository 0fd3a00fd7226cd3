"""Computations that keep full precision under autocast."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Products in the dtype of their factors, independent of autocast and ``set_float32_matmul_precision``.

    For interpolation, where a weight rounded to bfloat16 would move a map by 0.4 %, and for gradients written down by hand,
    whose sums over many pixels are float32.

    Args:
        device: Type of the device of the factors, such as ``cuda``.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def at_least_float32(logits: Tensor) -> Tensor:
    """Half-precision logits in single precision: sums over a thousand classes need it."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
