"""Ways to read experts' maps as a label map, in bands of rows so that memory stays flat."""

from collections.abc import Callable

from torch import Tensor

from longtail.pixels import Upsampling, upsampled_labels
from longtail.segmentation.method import ExpertMaps, Readout


def read_probabilities(combine: Callable[[Tensor, Tensor | None], Tensor]) -> Readout:
    """Readout that takes the argmax of what ``combine`` makes of the logits.

    Args:
        combine: (logits (experts, n, classes, rows, w), target rows or None) -> scores (n, classes, rows, w). It must
            treat every pixel by itself.
    """

    def read(maps: ExpertMaps, target: Tensor | None) -> Tensor:
        whole = Upsampling((maps.logits.shape[-2], maps.logits.shape[-1]))
        if target is None:
            return upsampled_labels(lambda logits: combine(logits, None), maps.logits, whole)
        return upsampled_labels(combine, maps.logits, whole, target)

    return read
