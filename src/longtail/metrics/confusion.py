"""The confusion matrix of a data set, over batches and ranks: alone, since torchmetrics takes seconds to import."""

import torch
from jaxtyping import Int, Integer
from torch import Tensor
from torchmetrics import Metric

from longtail.errors import ConfigError
from longtail.metrics.segmentation import confusion_matrix


class ConfusionMatrix(Metric):
    """Confusion matrix of a whole data set, summed over batches and ranks.

    Args:
        num_classes: Number of classes C.
        ignore_index: Target value of pixels without a label.
    """

    full_state_update = False
    is_differentiable = False
    matrix: Tensor

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__()
        if num_classes < 1:
            raise ConfigError(f"num_classes is {num_classes}", fix="give at least one class")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Integer[Tensor, "..."], target: Integer[Tensor, "..."]) -> None:
        """Add the pixels of one batch; nothing is added if any of them is refused.

        Args:
            prediction: Class ids 0 … C-1.
            target: Class ids and ``ignore_index``, of the same shape.
        """
        self.matrix += confusion_matrix(prediction, target, self.num_classes, self.ignore_index)

    def compute(self) -> Int[Tensor, "classes classes"]:
        """int64 (C, C): rows are the truth, columns the prediction."""
        return self.matrix
