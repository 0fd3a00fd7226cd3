"""Sum of the learned ensemble's loss over pieces of the pixels, with the gradient in closed form."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.autograd.function import once_differentiable

Inputs = Literal["log_probabilities", "probabilities", "logits"]
#: Logits of every expert (experts, classes, pixels), and the labels of the pixels.
Piece = tuple[Tensor, Tensor]
_EPS = 1e-12


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
        for logits, target in pieces:
            labels = target.long()
            known = labels != ignore_index
            if bool(known.any()):
                label = labels.where(known, 0)
                value = _add_piece(sums, logits.to(weight.dtype), label, known, weight, outer, bias, inputs, normalise)
                total += value
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
    experts = range(len(logits))
    parts = [calibrate(logits[i], weight[i], bias[i], inputs) for i in experts]
    row = label.unsqueeze(0)
    at_label = [a.gather(0, row).squeeze(0) * per for _, a, per in parts]
    weighted = [(outer[i] @ a) * per for i, (_, a, per) in enumerate(parts)]  # Σ_j outer^j a^j
    own = torch.stack([outer[i][label] * at_label[i] for i in experts]).sum(dim=0) / len(parts)
    everything = torch.stack(weighted).sum(dim=0) / len(parts)
    count = known.to(logits.dtype)
    likelihood = own / everything if normalise else own
    value = -(count * likelihood.clamp(min=_EPS).log()).sum()
    # g = common, and at the label common + special; 1/K of Eq. 8 is in both. The floor has no gradient.
    count = count.where(likelihood > _EPS, 0) / len(parts)
    common = count / everything if normalise else torch.zeros_like(count)
    special = -count / own.where(likelihood > _EPS, 1)
    for i, (u, a, per) in enumerate(parts):
        pull = outer[i][label] * at_label[i] * special
        q = common * weighted[i] + pull
        vectors = torch.stack([common * per, q * per], dim=1)
        u_label = u.gather(0, row).squeeze(0)
        on_a, on_au = a @ vectors, u.mul_(a) @ vectors
        sums[0, i] += (outer[i] * on_au[:, 0] - on_au[:, 1]).index_add(0, label, pull * u_label)
        sums[1, i] += on_a[:, 0].index_add(0, label, at_label[i] * special)
        sums[2, i] += (outer[i] * on_a[:, 0] - on_a[:, 1]).index_add(0, label, pull)
    return value


def calibrate(
    logits: Float[Tensor, "classes pixels"],
    weight: Float[Tensor, " classes"],
    bias: Float[Tensor, " classes"],
    inputs: Inputs,
) -> tuple[Tensor, Tensor, Tensor]:
    """u, exponentials e and their reciprocal sums r with ``softmax(weight u + bias) = e r``; all in memory of their own.

    Source: MEDOE Eq. 7.
    """
    if inputs == "logits":
        u, exponentials = logits.clone(), torch.empty_like(logits)
    else:
        u = logits - logits.amax(dim=0)
        exponentials = u.exp()
        total = exponentials.sum(dim=0)
        u = u.sub_(total.log()) if inputs == "log_probabilities" else torch.div(exponentials, total, out=u)
    torch.addcmul(bias.unsqueeze(1), weight.unsqueeze(1), u, out=exponentials)
    exponentials.sub_(exponentials.amax(dim=0)).exp_()
    return u, exponentials, exponentials.sum(dim=0).reciprocal()
