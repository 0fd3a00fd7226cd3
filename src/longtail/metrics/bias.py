"""Per-category bias of predicted probabilities (MEDOE Eq. 9 and Table 11)."""

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor
from torchmetrics import Metric

from longtail.metrics.segmentation import out_of_range


def squared_error_per_class(
    probabilities: Float[Tensor, "n classes *grid"], target: Integer[Tensor, "n *grid"], ignore_index: int = 255
) -> tuple[Float[Tensor, "classes"], Int[Tensor, "classes"]]:
    """Sum of ``‖p − e_y‖²`` over the positions of every true class, and their number.

    Args:
        probabilities: Class probabilities; the mean over runs where there are several.
        target: Class ids 0 … C-1 and ``ignore_index``.
        ignore_index: Target value of positions without a label.

    Returns:
        Sums (float64) and counts (int64), one for each of the C classes.

    Raises:
        DataError: A labelled position holds a value that is no class.

    Source: MEDOE Eq. 9 as SPEC §2.11 reads it.
    """
    num_classes = probabilities.shape[1]
    labels = target.long()
    ignored = labels == ignore_index
    stray = ~ignored & ((labels < 0) | (labels >= num_classes))
    if stray.any():
        raise out_of_range("target", int(labels[stray][0]), num_classes, ignore_index)
    # ignored positions have a separate bin, so that no boolean mask has to compact the maps
    labels = labels.masked_fill(ignored, num_classes)
    own = probabilities.gather(1, labels.clamp(max=num_classes - 1).unsqueeze(1)).squeeze(1)
    error = torch.linalg.vector_norm(probabilities, dim=1).square() - 2 * own + 1
    sums = torch.zeros(num_classes + 1, dtype=torch.float64, device=target.device)
    sums.index_add_(0, labels.flatten(), error.flatten().double())
    counts = torch.bincount(labels.flatten(), minlength=num_classes + 1)
    return sums[:-1], counts[:-1]


class ClassBias(Metric):
    """Squared-error bias of every class, summed over batches and ranks.

    ``Bias_j = mean over the pixels of class j of ‖p̄ − e_j‖²``: 0 for a perfect one-hot prediction, at most 2. The
    paper does not state its estimator; its Table 11 has bias / (1 - mAcc) between 1.4 and 3.0, which excludes the
    0-1 bias (``1 - Acc_j``, see ``analysis.zero_one_bias``) and fits the squared error.

    Args:
        num_classes: Number of classes C.
        ignore_index: Target value of pixels without a label.

    Source: MEDOE Eq. 9 and Table 11; SPEC §2.11.
    """

    full_state_update = False
    is_differentiable = False
    squared_error: Tensor
    pixels: Tensor

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.add_state("squared_error", torch.zeros(num_classes, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pixels", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probabilities: Float[Tensor, "n classes *grid"], target: Integer[Tensor, "n *grid"]) -> None:
        """Add one batch.

        Args:
            probabilities: Class probabilities p; for R > 1 runs p̄, their mean.
            target: Class ids 0 … C-1 and ``ignore_index``.
        """
        error, pixels = squared_error_per_class(probabilities, target, self.ignore_index)
        self.squared_error += error
        self.pixels += pixels

    def compute(self) -> Float[Tensor, "classes"]:
        """float64 (C,): Bias_j, NaN for a class without pixels."""
        return self.squared_error / self.pixels
