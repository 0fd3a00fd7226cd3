"""Sum of the learned ensemble's loss over pieces of the pixels, with the gradient in closed form."""

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.autograd.function import once_differentiable

from longtail.precision import full_precision

Inputs = Literal["log_probabilities", "probabilities", "logits"]
#: Logits of every expert (experts, classes, pixels), and the labels of the pixels.
Piece = tuple[Tensor, Tensor]
_EPS = 1e-12
#: Exponentials are powers of 2: exp2 is cheaper than exp.
_LOG2E, _LN2 = math.log2(math.e), math.log(2)


def summed_loss(
    pieces: Iterable[Piece],
    weight: Float[Tensor, "experts classes"],
    outer: Float[Tensor, "experts classes"],
    bias: Float[Tensor, "experts classes"],
    *,
    inputs: Inputs,
    normalise: bool,
    ignore_index: int,
) -> Float[Tensor, ""]:
    """``Σ_pixels -log f^y``, or ``-log (f^y / Σ_j f^j)``, with ``f = 1/K Σ_i outer_i ⊙ softmax(weight_i u_i + bias_i)``.

    With a_i that softmax, g = ∂loss/∂f and q_i = <a_i, outer_i ⊙ g>, the gradients are sums over the pixels of a_i ⊙ g for
    ``outer``, t_i = a_i ⊙ (outer_i ⊙ g - q_i) for ``bias`` and t_i ⊙ u_i for ``weight``. Since g is the same for every
    class but the pixel's own, each is a product of the matrix a_i, or a_i ⊙ u_i, with two vectors, and a correction at the
    label.
    The logits get no gradient; the result can be differentiated once.

    Args:
        pieces: What to sum over; read once. ``LearnedEnsemble.loss`` has the same in autograd.
        weight: w of Eq. 7.
        outer: The weight outside the softmax in Eq. 8.
        bias: β of Eq. 7.
        inputs: How u comes from the logits.
        normalise: Whether p_final is normalised over the classes.
        ignore_index: Label of the pixels that do not count.

    Source: MEDOE Eq. 7-8.
    """
    return _SummedLoss.apply(pieces, weight, outer, bias, inputs, normalise, ignore_index)


class _SummedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        pieces: Iterable[Piece],
        weight: Tensor,
        outer: Tensor,
        bias: Tensor,
        inputs: Inputs,
        normalise: bool,
        ignore_index: int,
    ) -> Tensor:
        total = weight.new_zeros(())
        sums = torch.zeros(3, *weight.shape, dtype=weight.dtype, device=weight.device)
        with full_precision(weight.device.type):
            for logits, target in pieces:
                labels = target.long()
                known = labels != ignore_index
                if bool(known.any()):
                    label = labels.where(known, 0)
                    own = logits.to(weight.dtype)
                    total += _add_piece(sums, own, label, known, weight, outer, bias, inputs, normalise)
        ctx.save_for_backward(sums)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (sums,) = ctx.saved_tensors
        return None, *(sums * upstream).unbind(), None, None, None


def _add_piece(
    sums: Float[Tensor, "3 experts classes"],
    logits: Float[Tensor, "experts classes pixels"],
    label: Integer[Tensor, " pixels"],
    known: Tensor,
    weight: Tensor,
    outer: Tensor,
    bias: Tensor,
    inputs: Inputs,
    normalise: bool,
) -> Tensor:
    """Value of a piece; adds its gradients with respect to weight, outer and bias to ``sums``."""
    experts = len(logits)
    u, a, per = calibrate(logits, weight, bias, inputs)
    row = label.expand(experts, 1, -1)
    at_label = a.gather(1, row).squeeze(1) * per
    weighted = torch.stack([o @ e for o, e in zip(outer, a, strict=True)]) * per  # Σ_j outer^j a^j
    outer_label = outer[:, label]
    own = (outer_label * at_label).mean(dim=0)
    everything = weighted.mean(dim=0)
    count = known.to(logits.dtype)
    likelihood = own / everything if normalise else own
    value = -(count * likelihood.clamp(min=_EPS).log()).sum()
    # g = common, and at the label common + special; 1/K of Eq. 8 is in both. The floor has no gradient.
    count = count.where(likelihood > _EPS, 0) / experts
    common = count / everything if normalise else torch.zeros_like(count)
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


def calibrate(
    logits: Float[Tensor, "experts classes pixels"],
    weight: Float[Tensor, "experts classes"],
    bias: Float[Tensor, "experts classes"],
    inputs: Inputs,
) -> tuple[Tensor, Tensor, Tensor]:
    """u log2 e, powers a and their reciprocal sums r with ``softmax(weight u + bias) = a r``; all in memory of their own.

    Source: MEDOE Eq. 7.
    """
    if inputs == "logits":
        u = logits * _LOG2E
        powers = torch.empty_like(u)
    else:
        u = torch.sub(logits, logits.amax(dim=1, keepdim=True)).mul_(_LOG2E)
        powers = u.exp2()
        total = powers.sum(dim=1, keepdim=True)
        u = u.sub_(total.log2()) if inputs == "log_probabilities" else torch.mul(powers, _LOG2E / total, out=u)
    torch.mul(u, weight.unsqueeze(2), out=powers).add_((_LOG2E * bias).unsqueeze(2))
    powers.sub_(powers.amax(dim=1, keepdim=True)).exp2_()
    return u, powers, powers.sum(dim=1).reciprocal()
