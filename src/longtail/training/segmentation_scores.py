"""Scores of readouts of a segmentation method, an image or batch at a time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.metrics.bias import ClassBias
from longtail.metrics.by_group import segmentation_prediction
from longtail.metrics.confusion import ConfusionMatrix
from longtail.segmentation.method import ExpertMaps, Readout, SegmentationMethod
from longtail.shapes import LabelMaps

#: Elements of a probability map that are looked at together: memory stays flat.
_BLOCK = 1 << 24


class SegmentationScores:
    """Confusion matrix of every readout, bias of the method and of every expert.

    Args:
        method: Its classes and its reading of logits.
        readouts: Name -> readout.
        bias: Whether to measure the bias (MEDOE Eq. 9) of the method's own readout and of the experts.
    """

    def __init__(self, method: SegmentationMethod, readouts: Mapping[str, Readout], bias: bool) -> None:
        device = next(method.parameters()).device
        classes, ignore = method.num_classes, method.ignore_index
        self.method = method
        self.readouts = dict(readouts)
        self.confusion = {name: ConfusionMatrix(classes, ignore).to(device) for name in readouts}
        self.own = next(iter(method.readouts()))
        measured = [name for name in readouts if name == self.own or name.startswith("expert_")]
        self.bias = {name: ClassBias(classes, ignore).to(device) for name in measured} if bias else {}

    def add(self, maps: ExpertMaps, target: LabelMaps) -> dict[str, Tensor]:
        """Count a batch; returns the label map of every readout. Maps of another size than the labels are resized."""
        maps = _at_label_size(maps, target.shape[-2:])
        labels = {name: read(maps, target) for name, read in self.readouts.items()}
        for name, predicted in labels.items():
            self.confusion[name].update(predicted, target)
        if maps.features is not None:
            self.bias.pop(self.own, None)  # an ensemble that reads features cannot be read in blocks
        for name, metric in self.bias.items():
            for rows in _row_blocks(maps.logits[0]):
                logits = maps.logits[..., rows, :]
                if name == self.own:
                    read = self.method.own_probabilities(logits)
                else:
                    read = self.method.probabilities(logits[int(name.removeprefix("expert_")) - 1])
                metric.update(read, target[..., rows, :])
        return labels

    def predictions(self, groups: CategoryGroups, frequency: ClassFrequency | None) -> dict[str, Any]:
        """Scores of every readout, of all ranks together."""
        return {
            name: segmentation_prediction(
                confusion.compute(),
                groups,
                frequency,
                bias=self.bias[name].compute() if name in self.bias else None,
            )
            for name, confusion in self.confusion.items()
        }


def _at_label_size(maps: ExpertMaps, size: Sequence[int]) -> ExpertMaps:
    experts, n, _, height, width = maps.logits.shape
    if (height, width) == tuple(size):
        return maps
    logits = F.interpolate(maps.logits.flatten(0, 1), tuple(size), mode="bilinear", align_corners=False)
    return maps._replace(logits=logits.unflatten(0, (experts, n)))


def _row_blocks(logits: Tensor) -> Iterator[slice]:
    n, classes, height, width = logits.shape
    rows = max(1, _BLOCK // (n * classes * width))
    for top in range(0, height, rows):
        yield slice(top, top + rows)
