"""Equalization loss: the classes of other objects do not push down rare classes."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss
from longtail.losses.cross_entropy import cross_entropy
from longtail.losses.label_space import LabelSpace
from longtail.losses.positions import labelled_rows
from longtail.losses.sigmoid import one_hot, prior_logit, with_background
from longtail.precision import at_least_float32
from longtail.shapes import Logits, PositionWeight, Probabilities, Scalar, Target

#: λ where none is given: of the images that show a class (LVIS v1), and of the labelled pixels.
_IMAGE_THRESHOLD, _PIXEL_THRESHOLD = 1.1e-3, 3e-3


def equalization_loss(
    logits: Float[Tensor, "m c"], target: Int[Tensor, " m"], rare: Bool[Tensor, " c"]
) -> Float[Tensor, " m"]:
    r"""Sigmoid form, for boxes: the sum over the classes of every box.

    .. math::
        \sum_c w_c\, BCE(o_c, t_c), \quad w_c = 1 - E\, T_c (1 - t_c)

    with E = 1 where the box shows an object (``target < c``) and T = 1 for rare classes.

    Source: Equalization loss (Tan 2020), Eqs. 3-5.
    """
    wanted = one_hot(target, logits.shape[1], logits)
    foreground = (target < logits.shape[1]).unsqueeze(1)
    spared = foreground & rare & (wanted == 0)
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return each.masked_fill(spared, 0.0).sum(dim=1)


def softmax_equalization_logits(
    logits: Float[Tensor, "n c *grid"], target: Int[Tensor, "n *grid"], spared: Bool[Tensor, "n c *grid"]
) -> Float[Tensor, "n c *grid"]:
    r"""Softmax form, for pixels: logits whose cross-entropy is the loss; spared classes, never the label, have -∞.

    .. math::
        -\log \frac{e^{o_y}}{\sum_c w_c e^{o_c}}, \quad w_c = 1 - β_c T_c (1 - t_c), \quad β_c \sim Bernoulli(γ)

    Source: Equalization loss (Tan 2020), Eqs. 9-11.
    """
    return logits.masked_fill(spared.scatter(1, target.unsqueeze(1), False), float("-inf"))


class EqualizationLoss(ClassificationLoss):
    """``equalization_loss`` of boxes, ``softmax_equalization_logits`` of pixels, the mean over the labelled positions.

    Boxes have C sigmoids and no logit of the background; see ``sigmoid.with_background`` for its probability.

    Args:
        labels: Classes, background and ignored value, with the training counts: images for boxes, pixels for pixels.
        threshold: λ, classes below this share are rare: of the images for boxes (0.0011 when not given), of the
            labelled pixels for pixels (0.003)
        spared: γ, how probably a rare class is spared at a pixel

    Raises:
        ConfigError: A setting out of its range, or it is not known how many images were counted.

    Source: Equalization loss (Tan 2020); PEERS part 2, 4.
    """

    rare: Tensor

    def __init__(
        self,
        labels: LabelSpace,
        *,
        threshold: float | None = None,
        spared: float = 0.95,
    ) -> None:
        super().__init__(labels)
        if not 0 <= spared <= 1:
            raise ConfigError(f"spared (gamma) is {spared}", fix="give a probability")
        self.background = self.absolute_logits = labels.background
        self.spared = spared
        self.threshold = (_IMAGE_THRESHOLD if self.background else _PIXEL_THRESHOLD) if threshold is None else threshold
        self.register_buffer("rare", _shares(labels) < self.threshold, persistent=False)

    @property
    def num_logits(self) -> int:
        """C: boxes have no logit of the background."""
        return self.num_classes - self.background

    @property
    def initial_bias(self) -> Float[Tensor, " logits"] | None:
        """Boxes start at a probability of 0.001."""
        return torch.full((self.num_logits,), prior_logit(0.001)) if self.background else None

    def forward(self, logits: Logits, target: Target, position_weight: PositionWeight = None) -> Scalar:
        if not self.background:
            return self._pixel_loss(logits, target.long(), position_weight)
        rows = labelled_rows(logits, target, position_weight, self.num_classes, self.ignore_index)
        return rows.mean(equalization_loss(rows.logits, rows.target, self.rare))

    def probabilities(self, logits: Logits) -> Probabilities:
        """Softmax of pixels; of boxes sigmoids, which do not sum to 1."""
        return with_background(logits.sigmoid()) if self.background else logits.softmax(dim=1)

    def _pixel_loss(self, logits: Tensor, target: Tensor, position_weight: Tensor | None) -> Tensor:
        logits = at_least_float32(logits)
        rare = self.rare.nonzero().squeeze(1)
        drawn = torch.rand_like(logits.index_select(1, rare)) < self.spared
        spared = torch.zeros_like(logits, dtype=torch.bool).index_copy_(1, rare, drawn)
        adjusted = softmax_equalization_logits(logits, target.where(target != self.ignore_index, 0), spared)
        return cross_entropy(adjusted, target, ignore_index=self.ignore_index, position_weight=position_weight)


def _shares(labels: LabelSpace) -> Float[Tensor, " c"]:
    """Share of the images that show each class (boxes), or of its pixels."""
    frequency = labels.counted()
    if labels.background and not frequency.num_images:
        raise ConfigError(
            "the equalization loss needs the share of images, but the frequency has no number of images",
            fix="count the data set again (num_images)",
        )
    shares = frequency.images / max(frequency.num_images, 1) if labels.background else frequency.share("pixels")
    return torch.tensor(shares, dtype=torch.float32)
