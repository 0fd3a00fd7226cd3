"""The largest window of an image that a method can read in the memory that is free."""

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Images of fewer pixels are read whole, without measuring.
SURELY_FITS = 2_000_000
#: Sides of the images that memory is measured on, and the sides of windows.
_PROBES, _STEP, _LEAST = (256, 384), 64, 256
#: Part of the free memory that may be used.
_SHARE = 0.5


def fitting_window(
    run: Callable[[Tensor], Any], image: Tensor, free: float | None = None
) -> tuple[int, tuple[int, int] | None]:
    """Bytes that an image needs, and the window to read it by; None where the whole image fits.

    The peak of memory is measured on two small images; a line and a square through them give that of others.

    Args:
        run: Image (1, bands, h, w) -> anything.
        image: (1, bands, h, w), on the device to compute on.
        free: Bytes that may be used; half of the free memory of the device where not given.
    """
    if free is None:
        free = _SHARE * free_memory(image.device)
    sizes = [float(side**2) for side in _PROBES]
    peaks = [float(peak_memory(run, image.new_zeros(1, image.shape[1], side, side))) for side in _PROBES]
    square = max(0.0, (peaks[1] / sizes[1] - peaks[0] / sizes[0]) / (sizes[1] - sizes[0]))
    linear = peaks[1] / sizes[1] - square * sizes[1]

    def needs(pixels: float) -> float:
        return linear * pixels + square * pixels**2

    whole = needs(float(image.shape[-2] * image.shape[-1]))
    if whole <= free:
        return int(whole), None
    side = _LEAST
    while needs(float((side + _STEP) ** 2)) <= free:
        side += _STEP
    return int(whole), (min(side, image.shape[-2]), min(side, image.shape[-1]))


def free_memory(device: torch.device) -> float:
    """Bytes that are free on a device; infinite where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if device.type != "cpu" or not meminfo.is_file():
        return float("inf")
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    available = lines.get("MemAvailable", "").split()
    return (
        float(available[0]) * 1024 if available else float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    )


@torch.inference_mode()
def peak_memory(run: Callable[[Tensor], Any], image: Tensor) -> int:
    """Most bytes of tensors that are alive at once while a function runs, its input and the weights left out."""
    with _Tensors() as tensors:
        run(image)
    return tensors.peak


class _Tensors(TorchDispatchMode):
    """Counts the bytes of the storages that operators make."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, operator: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        known = {
            leaf.untyped_storage().data_ptr() for leaf in tree_leaves((arguments, options)) if isinstance(leaf, Tensor)
        }
        result = operator(*arguments, **(options or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in known | self._seen:
                self._count(leaf.untyped_storage())
        self.peak = max(self.peak, self.alive)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        self.alive += size
        self._seen.add(address)
        weakref.finalize(storage, self._free, address, size)

    def _free(self, address: int, size: int) -> None:
        self.alive -= size
        self._seen.discard(address)
