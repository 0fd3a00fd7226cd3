"""Tversky loss: Dice with separate weights of what is too much and what is missing."""

from jaxtyping import Float
from torch import Tensor

from longtail.errors import ConfigError
from longtail.losses.label_space import LabelSpace
from longtail.losses.region import RegionLoss


def tversky_misfits(
    probabilities: Float[Tensor, "m classes"], present: Float[Tensor, "m classes"], alpha: float, beta: float
) -> Float[Tensor, " classes"]:
    """``1 - TP / (TP + α FP + β FN)`` of every class, with probabilities as soft counts.

    Args:
        probabilities: Of positions.
        present: 1 at the label, 0 elsewhere; every column has a 1.
        alpha: α, weight of false positives.
        beta: β > 0, weight of what is missed.

    Source: Salehi et al. 2017, Eq. 3.
    """
    hit = (probabilities * present).sum(dim=0)
    too_much = (probabilities * (1 - present)).sum(dim=0)
    missed = ((1 - probabilities) * present).sum(dim=0)
    return 1 - hit / (hit + alpha * too_much + beta * missed)


class TverskyLoss(RegionLoss):
    """Tversky loss; with ``gamma`` other than 1 focal Tversky.

    Args:
        labels: Classes, background and ignored value of the labels.
        alpha: weight of false positives
        beta: weight of what is missed; above alpha it favours recall, which rare classes lack
        gamma: exponent of every class's misfit; below 1 it favours classes that nearly fit
        cross_entropy: weight of cross-entropy, which is added

    Raises:
        ConfigError: A setting out of its range.

    Source: Salehi et al. 2017 (α = 0.3, β = 0.7); Abraham & Khan 2019 for γ.
    """

    def __init__(
        self,
        labels: LabelSpace | int,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        cross_entropy: float = 1.0,
    ) -> None:
        super().__init__(labels, cross_entropy=cross_entropy)
        if alpha < 0 or beta <= 0 or gamma <= 0:
            raise ConfigError(
                f"the Tversky loss has alpha={alpha}, beta={beta}, gamma={gamma}",
                fix="give alpha >= 0, beta > 0 and gamma > 0",
            )
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def misfits(
        self, probabilities: Float[Tensor, "m classes"], present: Float[Tensor, "m classes"]
    ) -> Float[Tensor, " classes"]:
        found = tversky_misfits(probabilities, present, self.alpha, self.beta)
        # a power below 1 has no gradient at 0
        return found if self.gamma == 1 else found.clamp(min=1e-6) ** self.gamma
