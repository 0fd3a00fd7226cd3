"""``LearnedLabels``: the classes that a learned ensemble chooses, at the image's size."""

import math

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from longtail.ensembles.labels import most_probable
from longtail.ensembles.learned import LearnedEnsemble
from longtail.precision import full_precision

_LOG2E = math.log2(math.e)
# Exponents of 2 that parameters may make, and that the sum over the classes may have: far from overflow, either way.
_EXPONENT, _LEAST_TOTAL = 30.0, 2.0**-80


class LearnedLabels:
    """Argmax of a learned ensemble whose logits are interpolated, with all that is constant done before.

    With b = 2^(β log2 e), c = outer ⊙ b, k = log2(c) / w and v = (z - max_j z_j) log2 e + k ::

        L = log2 Σ_j 2^(v_j - k_j)                   so that  log2 softmax(z)_j = v_j - k_j - L
        2^(w_j (v_j - L)) = c_j softmax(z)_j^w_j     which is outer ⊙ p̂ of Eq. 7-8, up to the pixel's factor
        factor = 1 / Σ_j (c_j softmax(z)_j^w_j) / outer_j

    A softmax does not see what all classes share, and interpolation weights sum to 1: v of the heads' own resolution,
    interpolated, is v of interpolated logits. So k, the largest logit and log2 e are applied to the small maps
    (``prepare``), and a pixel takes two powers, a difference and a product for every class.

    Ensembles of other inputs, weights without a sign, or parameters so far from 0 that powers would overflow, are read as
    ``LearnedEnsemble.labels_of_piece`` does, which is also what this equals.

    Args:
        ensemble: As it is now: later changes of its parameters are not seen.

    Source: MEDOE Eq. 7-8.
    """

    @torch.no_grad()
    def __init__(self, ensemble: LearnedEnsemble) -> None:
        self._ensemble = ensemble
        weight, outer = ensemble.weight, ensemble.outer_weight
        bias = (ensemble.bias * _LOG2E).expand_as(weight)
        log_scale = outer.log2() + bias
        shift = log_scale / weight
        reach = weight.amax() * math.log2(weight.shape[1]) + bias.abs().amax()
        #: Whether constants can be applied before the interpolation.
        self.ahead = bool(
            ensemble.inputs == "log_probabilities"
            and ensemble.positive
            and shift.abs().amax() <= _EXPONENT
            and log_scale.abs().amax() <= _EXPONENT
            and reach <= 2 * _EXPONENT
        )
        self._weight, self._shift = weight.unsqueeze(2), shift
        self._unshift, self._inverse_outer = (-shift).exp2(), outer.reciprocal()

    def prepare(self, logits: Float[Tensor, "experts n classes *grid"]) -> Float[Tensor, "experts n classes *grid"]:
        """What to interpolate instead of the heads' logits."""
        if not self.ahead:
            return logits
        logits = logits.to(self._shift.dtype)
        shift = self._shift.view(len(logits), 1, -1, *[1] * (logits.ndim - 3))
        return (logits - logits.amax(dim=2, keepdim=True)).mul_(_LOG2E).add_(shift)

    @torch.no_grad()
    def of_piece(self, prepared: Float[Tensor, "experts classes pixels"]) -> Integer[Tensor, " pixels"]:
        """The most probable class of every pixel.

        Args:
            prepared: Interpolated maps of ``prepare``.
        """
        if not self.ahead:
            return self._ensemble.labels_of_piece(prepared)
        with full_precision(prepared.device.type):
            scores = self._scores(prepared)
        if scores is None:
            return self._ensemble.labels_of_piece((prepared - self._shift.unsqueeze(2)) / _LOG2E)
        return most_probable(scores.unsqueeze(0))[0]

    def _scores(self, prepared: Tensor) -> Tensor | None:
        """Final scores; None where a pixel's logits are far below the largest ones around it."""
        final: Tensor | None = None
        for expert, own in enumerate(prepared):
            powers = own.exp2()
            total = self._unshift[expert] @ powers
            if not bool((total >= _LEAST_TOTAL).all()):
                return None
            torch.sub(own, total.log2_(), out=powers).mul_(self._weight[expert]).exp2_()
            factor = (self._inverse_outer[expert] @ powers).reciprocal_()
            final = powers.mul_(factor) if final is None else final.addcmul_(powers, factor)
        return final
