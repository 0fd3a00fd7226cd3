"""The learned ensemble at the image's size: its loss and its labels, in closed form and in bands of rows."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.autograd.function import once_differentiable

from longtail.ensembles.base import TrainableEnsemble
from longtail.ensembles.learned import LearnedEnsemble
from longtail.pixels.bands import sum_over_bands, upsampled_bands
from longtail.pixels.upsampling import Upsampling
from longtail.precision import full_precision
from longtail.shapes import Scalar

_EPS = 1e-12
#: Exponentials are powers of 2: exp2 is cheaper than exp.
_LOG2E, _LN2 = math.log2(math.e), math.log(2)
#: Exponents of 2 that parameters may make, and that the sum over the classes may have: far from overflow, either way.
_EXPONENT, _LEAST_TOTAL = 30.0, 2.0**-80


def ensemble_loss(
    ensemble: TrainableEnsemble,
    logits: Float[Tensor, "experts n classes h w"],
    target: Integer[Tensor, "n H W"],
    upsampling: Upsampling,
    *,
    ignore_index: int = 255,
) -> Scalar:
    """``ensemble.loss`` of upsampled logits, in memory of one band of rows.

    The loss is a mean over the labelled pixels, so that of the image is the mean of those of the bands, weighted by their
    labelled pixels.

    Args:
        ensemble: Any that reads no features; the learned one has its default reading in closed form.
        logits: Of every expert, at the heads' own resolution, detached.
        target: Class ids and ``ignore_index``.
        upsampling: From the logits to the target's size.
        ignore_index: Target value of pixels without a label.
    """
    labelled = (target != ignore_index).sum().clamp(min=1)
    if isinstance(ensemble, LearnedEnsemble) and (ensemble.inputs, ensemble.objective) == _DEFAULT:
        parameters = ensemble.weight, ensemble.outer_weight, ensemble.bias.expand_as(ensemble.raw_weight)
        return _SummedLoss.apply(*parameters, logits, target, upsampling, ignore_index) / labelled

    def of_band(values: Tensor, labels: Tensor) -> tuple[Tensor]:
        return (ensemble.loss(values, labels, ignore_index=ignore_index) * (labels != ignore_index).sum(),)

    return sum_over_bands(of_band, logits, upsampling, target)[0] / labelled


_DEFAULT = ("log_probabilities", "likelihood")


class _SummedLoss(torch.autograd.Function):
    r"""``Σ_pixels -log (f^y / Σ_j f^j)`` with ``f = 1/K Σ_i outer_i ⊙ softmax(weight_i u_i + bias_i)``.

    With u_i = log softmax(z_i), a_i the softmax above, g = ∂loss/∂f and q_i = <a_i, outer_i ⊙ g>, the gradients are sums over
    the pixels of a_i ⊙ g for ``outer``, t_i = a_i ⊙ (outer_i ⊙ g - q_i) for ``bias`` and t_i ⊙ u_i for ``weight``. Since g
    is the same for every class but the pixel's own, each is a product of the matrix a_i, or a_i ⊙ u_i, with two vectors, and
    a correction at the label. The gradients are formed on the way; the logits get none.

    Source: MEDOE Eq. 7-8.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        outer: Tensor,
        bias: Tensor,
        logits: Tensor,
        target: Tensor,
        upsampling: Upsampling,
        ignore_index: int,
    ) -> Tensor:
        total = weight.new_zeros(())
        sums = torch.zeros(3, *weight.shape, dtype=weight.dtype, device=weight.device)
        with full_precision(weight.device.type):
            for values, labels in _pixels(logits.to(weight.dtype), target, upsampling):
                known = labels != ignore_index
                if bool(known.any()):
                    total += _add_pixels(sums, values, labels.where(known, 0), known, weight, outer, bias)
        ctx.save_for_backward(sums)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (sums,) = ctx.saved_tensors
        return *(sums * upstream).unbind(), None, None, None, None


def _pixels(logits: Tensor, target: Tensor, upsampling: Upsampling) -> Iterator[tuple[Tensor, Tensor]]:
    """(experts, classes, pixels) and the labels of each band of each image."""
    for index, labels in enumerate(target.long()):
        for band, values in upsampled_bands(logits[:, index], upsampling):
            yield values.flatten(2), labels[band.rows].flatten()


def _add_pixels(
    sums: Float[Tensor, "3 experts classes"],
    logits: Float[Tensor, "experts classes pixels"],
    label: Integer[Tensor, " pixels"],
    known: Tensor,
    weight: Tensor,
    outer: Tensor,
    bias: Tensor,
) -> Tensor:
    """Value of some pixels; adds the gradients with respect to weight, outer and bias to ``sums``."""
    experts = len(logits)
    u, a, per = _calibrated(logits, weight, bias)
    row = label.expand(experts, 1, -1)
    at_label = a.gather(1, row).squeeze(1) * per
    weighted = torch.stack([o @ e for o, e in zip(outer, a, strict=True)]) * per  # Σ_j outer^j a^j
    outer_label = outer[:, label]
    own = (outer_label * at_label).mean(dim=0)
    everything = weighted.mean(dim=0)
    count = known.to(logits.dtype)
    likelihood = own / everything
    value = -(count * likelihood.clamp(min=_EPS).log()).sum()
    # g = common, and at the label common + special; 1/K of Eq. 8 is in both. The floor has no gradient.
    count = count.where(likelihood > _EPS, 0) / experts
    common = count / everything
    special = -count / own.where(likelihood > _EPS, 1)
    pull = outer_label * at_label * special
    # Two products with a vector each: one with a matrix of two columns is slower.
    factors = (common * per, (common * weighted + pull) * per)
    u_label = u.gather(1, row).squeeze(1)
    on_a = [_products(a, factor) for factor in factors]
    u.mul_(a)
    on_au = [_products(u, factor) for factor in factors]
    sums[0] += _LN2 * (outer * on_au[0] - on_au[1]).index_add(1, label, pull * u_label)
    sums[1] += on_a[0].index_add(1, label, at_label * special)
    sums[2] += (outer * on_a[0] - on_a[1]).index_add(1, label, pull)
    return value


def _products(matrices: Tensor, vectors: Tensor) -> Tensor:
    return torch.stack([matrix @ vector for matrix, vector in zip(matrices, vectors, strict=True)])


def _calibrated(
    logits: Float[Tensor, "experts classes pixels"],
    weight: Float[Tensor, "experts classes"],
    bias: Float[Tensor, "experts classes"],
) -> tuple[Tensor, Tensor, Tensor]:
    """u log2 e, powers a and their reciprocal sums r with ``softmax(weight u + bias) = a r``; overwrites the logits.

    Source: MEDOE Eq. 7.
    """
    u = logits.sub_(logits.amax(dim=1, keepdim=True)).mul_(_LOG2E)
    powers = u.exp2()
    u.sub_(powers.sum(dim=1, keepdim=True).log2_())
    torch.mul(u, weight.unsqueeze(2), out=powers).add_((_LOG2E * bias).unsqueeze(2))
    powers.sub_(powers.amax(dim=1, keepdim=True)).exp2_()
    return u, powers, powers.sum(dim=1).reciprocal()


class LearnedScores:
    """Scores with the argmax of a learned ensemble whose logits are interpolated, with constant factors applied before.

    With b = 2^(β log2 e), c = outer ⊙ b, k = log2(c) / w and v = (z - max_j z_j) log2 e + k ::

        L = log2 Σ_j 2^(v_j - k_j)                   so that  log2 softmax(z)_j = v_j - k_j - L
        2^(w_j (v_j - L)) = c_j softmax(z)_j^w_j     which is outer ⊙ p̂ of Eq. 7-8, up to the pixel's factor
        factor = 1 / Σ_j (c_j softmax(z)_j^w_j) / outer_j

    A softmax does not see what all classes share, and interpolation weights sum to 1: v of the heads' own resolution,
    interpolated, is v of interpolated logits. So k, the largest logit and log2 e are applied to the small maps
    (``prepare``), and a pixel takes two powers, a difference and a product for every class.

    Ensembles of other inputs, weights without a sign, or parameters so far from 0 that powers would overflow, are read as
    they are.

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
        self._weight, self._shift = weight.unsqueeze(2), shift.view(len(shift), 1, -1, 1, 1)
        self._unshift, self._inverse_outer = (-shift).exp2(), outer.reciprocal()

    def prepare(self, logits: Float[Tensor, "experts n classes h w"]) -> Float[Tensor, "experts n classes h w"]:
        """Maps to interpolate instead of the heads' logits."""
        if not self.ahead:
            return logits
        logits = logits.to(self._shift.dtype)
        return (logits - logits.amax(dim=2, keepdim=True)).mul_(_LOG2E).add_(self._shift)

    @torch.no_grad()
    def __call__(self, prepared: Float[Tensor, "experts n classes rows w"]) -> Float[Tensor, "n classes rows w"]:
        """Scores of every pixel.

        Args:
            prepared: Interpolated maps of ``prepare``.
        """
        if not self.ahead:
            return self._ensemble(prepared)
        with full_precision(prepared.device.type):
            scores = self._scores(prepared.flatten(3))
        if scores is None:
            return self._ensemble((prepared - self._shift) / _LOG2E)
        return scores.view(prepared.shape[1:])

    def _scores(self, prepared: Float[Tensor, "experts n classes pixels"]) -> Tensor | None:
        """Final scores; None where a pixel's logits are far below the largest ones around it."""
        final: Tensor | None = None
        for expert, own in enumerate(prepared):
            powers = own.exp2()
            total = (self._unshift[expert] @ powers).unsqueeze(1)
            if not bool((total >= _LEAST_TOTAL).all()):
                return None
            torch.sub(own, total.log2_(), out=powers).mul_(self._weight[expert]).exp2_()
            factor = (self._inverse_outer[expert] @ powers).reciprocal_().unsqueeze(1)
            final = powers.mul_(factor) if final is None else final.addcmul_(powers, factor)
        return final
