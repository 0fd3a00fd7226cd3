"""Ways to read experts' maps as a label map, in blocks of rows so that memory stays flat."""

from collections.abc import Callable

import torch
from torch import Tensor

from longtail.ensembles.labels import most_probable
from longtail.segmentation.method import ExpertMaps, Readout

#: Elements (experts x classes x pixels) of one block: fits the cache of a CPU core, and fills a GPU.
_BLOCK = {"cpu": 1 << 20, "cuda": 1 << 27}

Combine = Callable[[Tensor, Tensor | None], Tensor]


def read_probabilities(combine: Combine) -> Readout:
    """Readout that takes the argmax of what ``combine`` makes of the logits.

    Args:
        combine: (logits (experts, n, classes, rows, w), target rows or None) -> scores (n, classes, rows, w). It must
            treat every pixel by itself.
    """

    def read(maps: ExpertMaps, target: Tensor | None) -> Tensor:
        logits = maps.logits
        rows = _rows(logits)
        labels = []
        for top in range(0, logits.shape[-2], rows):
            truth = None if target is None else target[..., top : top + rows, :]
            labels.append(most_probable(combine(logits[..., top : top + rows, :], truth)))
        return torch.cat(labels, dim=-2)

    return read


def _rows(logits: Tensor) -> int:
    experts, n, classes, height, width = logits.shape
    block = _BLOCK.get(logits.device.type, _BLOCK["cuda"])
    return max(1, min(height, block // max(1, experts * n * classes * width)))
