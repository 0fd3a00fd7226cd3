"""Dice loss."""

from jaxtyping import Float
from torch import Tensor

from longtail.losses.region import RegionLoss
from longtail.losses.tversky import tversky_misfits


class DiceLoss(RegionLoss):
    """``1 - 2 |P ∩ Y| / (|P| + |Y|)`` of every class in the batch, with probabilities as soft counts.

    Args:
        labels: Classes, background and ignored value of the labels.
        cross_entropy: weight of cross-entropy, which is added

    Source: Milletari et al. 2016; mean over the classes that occur, as in segmentation-models-pytorch.
    """

    def misfits(
        self, probabilities: Float[Tensor, "m classes"], present: Float[Tensor, "m classes"]
    ) -> Float[Tensor, " classes"]:
        return tversky_misfits(probabilities, present, 0.5, 0.5)
