"""Pixels of every image that are right, true and predicted: IoU and accuracy in draws of the images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64


@dataclass(frozen=True)
class ImageCounts:
    """Pixels of every image by class.

    Args:
        names: Name of each of the I images.
        counts: int64 (I, 3, C): pixels of each class that are right, true, and predicted.
    """

    names: tuple[str, ...]
    counts: Int64[np.ndarray, "images 3 classes"]

    def drawn(self, weights: Float32[np.ndarray, "images draws"]) -> Mapping[str, Float[np.ndarray, "classes draws"]]:
        """IoU and accuracy of every class in some draws; NaN where a draw has no pixel of the class.

        Args:
            weights: How often each image occurs in each draw, see ``Draws``.
        """
        images, _, classes = self.counts.shape
        sums = self.counts.reshape(images, -1).T.astype(np.float64) @ weights.astype(np.float64)
        right, true, predicted = sums.reshape(3, classes, -1)
        return {"mIoU": _ratio(right, true + predicted - right), "mAcc": _ratio(right, true)}


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
