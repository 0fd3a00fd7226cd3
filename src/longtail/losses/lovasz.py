"""Lovász-softmax: a convex extension of the mean IoU."""

import torch
from jaxtyping import Float
from torch import Tensor

from longtail.losses.region import RegionLoss


def lovasz_misfits(
    probabilities: Float[Tensor, "m classes"], present: Float[Tensor, "m classes"]
) -> Float[Tensor, " classes"]:
    """Lovász extension of ``1 - IoU`` of every class, at the errors of its positions.

    With errors sorted from the largest, it is their sum weighted by how much the Jaccard loss grows as each position is
    added to the wrong ones.

    Args:
        probabilities: Of positions.
        present: 1 at the label, 0 elsewhere; every column has a 1.

    Source: Berman et al. 2018, Eq. 9 and Alg. 1.
    """
    errors, order = (present - probabilities).abs().sort(dim=0, descending=True)
    labels = present.gather(0, order)
    intersection = labels.sum(dim=0) - labels.cumsum(dim=0)
    union = labels.sum(dim=0) + (1 - labels).cumsum(dim=0)
    jaccard = 1 - intersection / union
    growth = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return (errors * growth).sum(dim=0)


class LovaszLoss(RegionLoss):
    """Lovász-softmax of the classes in the batch.

    Args:
        labels: Classes, background and ignored value of the labels.
        cross_entropy: weight of cross-entropy, which is added

    Source: Berman et al. 2018, the loss of the classes that are present.
    """

    def misfits(
        self, probabilities: Float[Tensor, "m classes"], present: Float[Tensor, "m classes"]
    ) -> Float[Tensor, " classes"]:
        return lovasz_misfits(probabilities, present)
