"""Equalization loss v2: positive and negative gradients of every class are brought into balance."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from longtail.distributed import all_reduce_sum
from longtail.losses.base import ClassificationLoss
from longtail.losses.label_space import LabelSpace
from longtail.losses.positions import labelled_rows
from longtail.losses.sigmoid import one_hot, prior_logit
from longtail.shapes import Logits, PositionWeight, Probabilities, Scalar, Target

#: Ratio of a class that has not been seen; its weights are then 1.
_UNSEEN = 100.0


def gradient_weights(
    positive: Float[Tensor, " c"],
    negative: Float[Tensor, " c"],
    *,
    steepness: float = 12.0,
    centre: float = 0.8,
    alpha: float = 4.0,
) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    r"""Weights of the positive and the negative gradient of every class.

    .. math::
        r = 1 + α (1 - f(R)), \quad q = f(R), \quad R = g^{pos} / g^{neg}, \quad f(x) = 1 / (1 + e^{-γ (x - μ)})

    Args:
        positive: g^pos, gradient gathered so far by boxes of the class.
        negative: g^neg, the gradient of all other boxes.
        steepness: γ.
        centre: μ.
        alpha: α.

    Source: Equalization loss v2 (Tan 2021), Eqs. 4-8.
    """
    ratio = torch.where(positive + negative > 0, positive / (negative + 1e-10), _UNSEEN)
    fraction = torch.sigmoid(steepness * (ratio - centre))
    return 1 + alpha * (1 - fraction), fraction


class EqualizationLossV2(ClassificationLoss):
    r"""Binary cross-entropies weighted by ``gradient_weights``, summed at each position, their mean over the labelled ones.

    Boxes have C + 1 sigmoids; the last is the background's and is never weighted: p(c) = σ(o_c) (1 - σ(o_C)). Pixels
    have C sigmoids, divided by their sum to read them.

    The gradients |∂L/∂o| are known in closed form, |σ(o) - t| times its weights, and are gathered as the loss is
    computed, in training mode only; the weights of a step come from the steps before. ``position_weight`` counts as a
    part of the gradient.

    Args:
        labels: Classes, background and ignored value of the labels.
        steepness: γ, how steeply the weights change with the ratio of positive to negative gradient
        centre: μ, the ratio at which they are halfway
        alpha: α, how much more positive gradients may weigh

    Source: Equalization loss v2 (Tan 2021); PEERS part 2, 4.
    """

    positive: Tensor
    negative: Tensor
    absolute_logits = True

    def __init__(
        self,
        labels: LabelSpace | int,
        *,
        steepness: float = 12.0,
        centre: float = 0.8,
        alpha: float = 4.0,
    ) -> None:
        super().__init__(labels)
        self.background, self.num_foreground = self.labels.background, self.labels.num_foreground
        self.steepness, self.centre, self.alpha = steepness, centre, alpha
        self.register_buffer("positive", torch.zeros(self.num_foreground))
        self.register_buffer("negative", torch.zeros(self.num_foreground))

    @property
    def initial_bias(self) -> Float[Tensor, " logits"]:
        """Classes start at a probability of 0.001, the background at one half."""
        bias = torch.full((self.num_logits,), prior_logit(0.001))
        bias[self.num_foreground :] = 0.0
        return bias

    def forward(self, logits: Logits, target: Target, position_weight: PositionWeight = None) -> Scalar:
        rows = labelled_rows(logits, target, position_weight, self.num_classes, self.ignore_index)
        wanted = one_hot(rows.target, rows.logits.shape[1], rows.logits)
        weight = torch.where(wanted > 0, *self._weights())
        if self.training:
            self._gather(rows.logits.detach(), wanted, weight, rows.weight)
        each = F.binary_cross_entropy_with_logits(rows.logits, wanted, weight, reduction="none")
        return rows.mean(each.sum(dim=1))

    def probabilities(self, logits: Logits) -> Probabilities:
        """See the class; those of boxes do not sum to 1."""
        scores = logits.sigmoid()
        if not self.background:
            return scores / scores.sum(dim=1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
        background = scores[:, self.num_foreground :]
        return torch.cat([scores[:, : self.num_foreground] * (1 - background), background], dim=1)

    def _weights(self) -> tuple[Tensor, Tensor]:
        """Weights of positive and negative for every column, (logits,)."""
        options = {"steepness": self.steepness, "centre": self.centre, "alpha": self.alpha}
        weights = gradient_weights(self.positive, self.negative, **options)
        positive, negative = (F.pad(w, (0, int(self.background)), value=1.0) for w in weights)
        return positive, negative

    def _gather(self, logits: Tensor, wanted: Tensor, weight: Tensor, position_weight: Tensor | None) -> None:
        gradient = (logits.sigmoid() - wanted).abs() * weight
        if position_weight is not None:
            gradient = gradient * position_weight.unsqueeze(1)
        positive = (gradient * wanted).sum(dim=0)
        both = torch.stack([positive, gradient.sum(dim=0) - positive])[:, : self.num_foreground]
        both = all_reduce_sum(both.to(self.positive.dtype))
        self.positive += both[0]
        self.negative += both[1]
