"""Under-sampling: positions of frequent classes are left out at random."""

import torch
from jaxtyping import Float
from torch import Tensor

from longtail.errors import ConfigError
from longtail.frequency.counts import Unit
from longtail.losses.build import LossSpec, build_loss
from longtail.losses.label_space import LabelSpace
from longtail.losses.wrapped import WrappedLoss
from longtail.shapes import Logits, PositionWeight, Scalar, Target


def keep_probabilities(counts: Float[Tensor, " c"], quantile: float = 0.5) -> Float[Tensor, " c"]:
    """``min(1, n_ref / n)``, with n_ref the quantile of the counts: classes above it are all thinned to n_ref.

    Args:
        counts: Samples of each class, at least 1.
        quantile: 0 thins every class to the rarest, 0.5 to the median, 1 none.

    Raises:
        ConfigError: A quantile outside [0, 1].

    Source: pixel-level under-sampling of MEDOE Table 2; the paper names no rate. Thinning to the rarest class would
        leave one pixel in 10^4 or less on real data.
    """
    if not 0 <= quantile <= 1:
        raise ConfigError(f"quantile of the under-sampling is {quantile}", fix="give a value in [0, 1]")
    return (torch.quantile(counts, quantile) / counts).clamp(max=1)


class UnderSamplingLoss(WrappedLoss):
    """Another loss that sees each position with the probability of its class; all of them outside of training.

    Positions left out are ignored and do not count in the divisor of the sum. They are drawn again in every step
    from torch's generator. The background of boxes, which the detector's own sampling thins, is always kept.

    Args:
        labels: Classes, background and ignored value, with the training counts.
        loss: the loss of the positions kept, by name or as {name: focal, gamma: 1}; it owns the logits
        quantile: classes with more samples than this quantile of the counts are thinned to it: 0 thins every class to
            the rarest, 0.5 to the median, 1 none
        unit: unit of the counts: pixels, instances or images; instances of boxes and pixels of pixels when not given

    Source: MEDOE Table 2 (under-sampling).
    """

    keep: Tensor

    def __init__(
        self,
        labels: LabelSpace,
        *,
        loss: LossSpec = "cross_entropy",
        quantile: float = 0.5,
        unit: Unit | None = None,
    ) -> None:
        super().__init__(build_loss(loss, labels))
        keep = keep_probabilities(labels.counts(unit), quantile)
        self.register_buffer("keep", labels.append_background(keep, 1.0), persistent=False)

    def forward(self, logits: Logits, target: Target, position_weight: PositionWeight = None) -> Scalar:
        target = target.long()
        if self.training:
            keep = self._of_labels(self.keep, target)
            target = target.where(torch.rand_like(keep) < keep, self.ignore_index)
        return self.loss(logits, target, position_weight)
