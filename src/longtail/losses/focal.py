"""Focal loss: well-classified samples weigh little. With a softmax, or one sigmoid per class."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss
from longtail.losses.cross_entropy import Normalizer, normalised
from longtail.losses.label_space import LabelSpace
from longtail.losses.positions import check_labels
from longtail.losses.sigmoid import prior_logit, with_background
from longtail.precision import at_least_float32
from longtail.settings import one_of
from longtail.shapes import Logits, PositionWeight, Probabilities, Scalar, Target

Kind = Literal["softmax", "sigmoid"]


def softmax_focal(
    logits: Logits, target: Target, *, gamma: float = 2.0, ignore_index: int = 255
) -> Float[Tensor, "n *grid"]:
    """``-(1 - p_y)^γ log p_y`` of every position, 0 where it has no label; γ = 0 is cross-entropy.

    Args:
        logits: Class scores.
        target: Class ids and ``ignore_index``.
        gamma: γ >= 0.
        ignore_index: Target value of positions without a label.

    Source: Lin et al. 2017, Eq. 4, with the softmax's probability of the label for p_t.
    """
    logits = at_least_float32(logits)
    surprise = F.cross_entropy(logits, target.long(), ignore_index=ignore_index, reduction="none")
    if gamma == 0:
        return surprise
    # above 0, where the power has no gradient for γ < 1
    missing = (-torch.expm1(-surprise)).clamp(min=torch.finfo(logits.dtype).tiny)
    return missing**gamma * surprise


def sigmoid_focal(
    logits: Float[Tensor, "n classes *grid"],
    target: Target,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    ignore_index: int = 255,
) -> Float[Tensor, "n *grid"]:
    """Sum over the classes of ``-α_t (1 - p_t)^γ log p_t`` at every position, 0 where it has no label.

    For the label p_t is the sigmoid and α_t is α; for every other class they are one minus that. A target past the
    last logit, the background of boxes, is the label of no class.

    Args:
        logits: One per class.
        target: Class ids, the background's, and ``ignore_index``.
        alpha: α in [0, 1]; None for weights of 1.
        gamma: γ >= 0.
        ignore_index: Target value of positions without a label.

    Source: Lin et al. 2017, Eq. 5.
    """
    target = target.long()
    logits = at_least_float32(logits)
    absent, present = (1.0, 1.0) if alpha is None else (1.0 - alpha, alpha)
    labelled = target != ignore_index
    positive = labelled & (target < logits.shape[1])
    label = target.where(positive, 0).unsqueeze(1)
    # log p_t of a class that is not the label, and of the label; powers as exponentials have a gradient everywhere
    no, yes = F.logsigmoid(-logits), F.logsigmoid(logits)
    each = -absent * torch.exp(gamma * yes) * no
    of_label = -present * torch.exp(gamma * no.gather(1, label)) * yes.gather(1, label)
    each = each.scatter(1, label, of_label.where(positive.unsqueeze(1), each.gather(1, label)))
    return each.sum(dim=1).where(labelled, 0)


class FocalLoss(ClassificationLoss):
    """``softmax_focal`` or ``sigmoid_focal`` as a module.

    With sigmoids and a background there is no logit for the background; see ``sigmoid.with_background`` for its
    probability. (The product over the classes of 1 - p, the probability that independent classes are all absent,
    vanishes for a thousand small p.) The probabilities of sigmoids do not sum to 1.

    Args:
        labels: Classes, background and ignored value of the labels.
        kind: softmax, or sigmoid: one yes or no for each class; when not given, sigmoid for boxes and softmax for pixels
        gamma: γ >= 0, how little well classified positions weigh; 0 is cross-entropy
        alpha: weight of the label, 1 - α for every other class; null for weights of 1; of sigmoids [0.25]
        normalizer: divisor of the sum: valid (labelled positions), foreground (those that are not background),
            all (positions) or sum (1); when not given, foreground for sigmoids, as in the paper, and valid for a softmax
        prior: probability that every sigmoid should start from; of sigmoids

    Raises:
        ConfigError: A setting out of its range.

    Source: Lin et al. 2017; γ = 2, α = 0.25, prior 0.01 are theirs. MEC Table 2a rows 4-5 and MEDOE Table 2 say
    nothing more about theirs (SPEC C17, M22).
    """

    def __init__(
        self,
        labels: LabelSpace | int,
        *,
        kind: Kind | None = None,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        normalizer: Normalizer | Literal["foreground"] | None = None,
        prior: float = 0.01,
    ) -> None:
        super().__init__(labels)
        if gamma < 0 or not 0 <= (alpha or 0) <= 1 or not 0 < prior < 1:
            raise ConfigError(
                f"the focal loss has gamma={gamma}, alpha={alpha}, prior={prior}",
                fix="give gamma >= 0, alpha in [0, 1] or null, and a prior between 0 and 1",
            )
        self.background = self.labels.background
        self.kind: Kind = one_of("kind", kind or ("sigmoid" if self.background else "softmax"), get_args(Kind))
        self.absolute_logits = self.kind == "sigmoid"
        self.gamma = gamma
        self.alpha = alpha
        chosen = normalizer or ("foreground" if self.kind == "sigmoid" else "valid")
        self.normalizer = one_of("normalizer", chosen, ("foreground", *get_args(Normalizer)))
        self.prior = prior

    @property
    def num_logits(self) -> int:
        """One for each class; sigmoids have none for the background."""
        return self.num_classes - (self.background and self.kind == "sigmoid")

    @property
    def initial_bias(self) -> Float[Tensor, " logits"] | None:
        """Sigmoids start at the prior. Source: Lin et al. 2017, §4.1."""
        return torch.full((self.num_logits,), prior_logit(self.prior)) if self.kind == "sigmoid" else None

    def forward(self, logits: Logits, target: Target, position_weight: PositionWeight = None) -> Scalar:
        if self.kind == "softmax":
            each = softmax_focal(logits, target, gamma=self.gamma, ignore_index=self.ignore_index)
        else:
            check_labels(target, self.num_classes, self.ignore_index)
            each = sigmoid_focal(logits, target, alpha=self.alpha, gamma=self.gamma, ignore_index=self.ignore_index)
        if position_weight is not None:
            each = position_weight * each
        return self.normalise(each.sum(), target)

    def normalise(self, total: Scalar, target: Target) -> Scalar:
        """Divide by ``normalizer``."""
        if self.normalizer == "foreground" and self.background:
            target = target.masked_fill(target == self.num_classes - 1, self.ignore_index)
        by: Normalizer = "valid" if self.normalizer == "foreground" else self.normalizer
        return normalised(total, target, ignore_index=self.ignore_index, normalizer=by)

    def probabilities(self, logits: Logits) -> Probabilities:
        """Softmax; or sigmoids, and for the background 1 minus the largest of them."""
        if self.kind == "softmax":
            return logits.softmax(dim=1)
        scores = logits.sigmoid()
        return with_background(scores) if self.background else scores
