"""Sums over the pixels of upsampled logits that losses are made of, block by block, with a gradient in closed form."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from longtail.pixels.once import as_last_derivative
from longtail.pixels.upsampled_blocks import UpsampledBlocks
from longtail.pixels.upsampling import Upsampling
from longtail.precision import full_precision

Scope = Literal["all", "set"]
#: Where fewer of a block's pixels than this carry a label of the set, they are picked out.
_FEW = 0.4
_KERNEL_DEVICES = ("cuda",)
#: Exponentials are powers of 2, of logits scaled once at the head's resolution: exp2 is cheaper than exp.
_LOG2E, _LN2 = math.log2(math.e), math.log(2)


@dataclass(frozen=True)
class Wanted:
    """Which sums, over which pixels. A pixel is *own* if its label is in the label set.

    Args:
        members: Class ids of the label set.
        num_classes: C.
        ignore_index: Target value of pixels without a label.
        softmax: Cross-entropy's softmax over ``all`` classes, or over the label ``set`` alone.
        divergence: ``batch`` asks for the summed probabilities, ``pixel`` for the summed divergence from a prior.
        divergence_softmax: The softmax of those.
        penalty: ``square`` or ``absolute`` values of the logits outside the set; None leaves them out.
        penalty_pixels: Pixels of the penalty: all labelled ones, or the own ones of the ``expert``.
    """

    members: tuple[int, ...]
    num_classes: int
    ignore_index: int = 255
    softmax: Scope = "all"
    divergence: Literal["batch", "pixel"] | None = None
    divergence_softmax: Scope = "set"
    penalty: Literal["square", "absolute"] | None = None
    penalty_pixels: Literal["labelled", "expert"] = "labelled"

    @property
    def outside(self) -> int:
        """Number of classes that are not in the set."""
        return self.num_classes - len(self.members)

    @property
    def order(self) -> list[int]:
        """All classes, those of the set last: masks become slices."""
        return [c for c in range(self.num_classes) if c not in set(self.members)] + list(self.members)


class Sums(NamedTuple):
    """What was asked for; zero what was not.

    Attributes:
        cross_entropy: ``Σ_own weight · (-log softmax(z)[y])``.
        divergence: ``Σ_own KL(p ‖ q)``, for ``divergence="pixel"``.
        probabilities: (C,) ``Σ_own p^j`` for the classes j of the set, for ``divergence="batch"``.
        penalties: (C,) ``Σ (z^j)²`` or ``Σ |z^j|`` for the classes outside it.
    """

    cross_entropy: Tensor
    divergence: Tensor
    probabilities: Tensor
    penalties: Tensor


@torch.compiler.disable
def upsampled_sums(
    logits: Float[Tensor, "n classes h w"],
    target: Integer[Tensor, "n H W"],
    upsampling: Upsampling,
    wanted: Wanted,
    *,
    weight: Float[Tensor, "n H W"] | None = None,
    log_prior: Float[Tensor, " set"] | None = None,
) -> Sums:
    """Sums over the pixels of ``upsampling(logits)``, in memory of one block of it.

    Equal in value and gradient to the same sums of the whole map, to rounding. In float32 for half-precision logits.
    On a GPU, cross-entropy and the probabilities of all classes come from the kernels of ``upsampled_triton``.
    Cross-entropy alone has its gradient formed in the forward pass. Everything else goes over the blocks a second time in
    the backward pass, since the gradient of a function of the summed probabilities needs the sums first: interpolating
    and exponentiating once more costs less than to read a saved map. The result can be differentiated once.

    Args:
        logits: z at the head's own resolution.
        target: Class ids and ``ignore_index``.
        upsampling: From the logits to the target's size.
        wanted: Which sums.
        weight: Factor of each pixel's cross-entropy; it gets no gradient.
        log_prior: log q of each class of the set, for ``divergence="pixel"``.

    Source: MEDOE Eq. 3-4; the algebra, docs/decisions/0002.
    """
    kernel = _kernel(logits, wanted)
    if kernel is not None:
        own = torch.zeros(wanted.num_classes + 1, dtype=torch.bool, device=logits.device)
        own[list(wanted.members)] = True
        known = target.long().where(target != wanted.ignore_index, wanted.num_classes)
        places, summed = known.where(own[known], -1), wanted.divergence is not None
        loss, probabilities = kernel(logits, places, upsampling, weight=weight, probabilities=summed)
        return Sums(loss, torch.zeros_like(loss), probabilities, torch.zeros_like(probabilities))
    packed = _Sums.apply(logits, target, weight, log_prior, upsampling, wanted)
    c = wanted.num_classes
    return Sums(packed[0], packed[1], packed[2 : 2 + c], packed[2 + c :])


def _kernel(logits: Tensor, wanted: Wanted) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The Triton kernels, where they compute what is wanted: on a GPU, unless ``LONGTAIL_TRITON=0``."""
    summed = wanted.divergence is None or (wanted.divergence == "batch" and not wanted.outside)
    if wanted.penalty or wanted.softmax != "all" or not summed:
        return None
    on = logits.device.type in _KERNEL_DEVICES and logits.dtype != torch.float64
    if not on or os.environ.get("LONGTAIL_TRITON") == "0":
        return None
    try:
        from longtail.pixels.upsampled_triton import kernel_sums
    except ImportError:
        return None
    return kernel_sums


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        log_prior: Tensor | None,
        upsampling: Upsampling,
        wanted: Wanted,
    ) -> Tensor:
        ctx.geometry = (upsampling, wanted)
        ctx.formed = ctx.needs_input_grad[0] and wanted.divergence is None and wanted.penalty is None
        upstream = None
        if ctx.formed:
            upstream = logits.new_ones(2 + 2 * wanted.num_classes, dtype=_computed_in(logits))
        sums, gradient = _run(logits, target, weight, log_prior, upsampling, wanted, upstream)
        ctx.save_for_backward(*((gradient,) if ctx.formed else (logits, target, weight, log_prior)))
        return sums

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.formed:
            (formed,) = ctx.saved_tensors
            gradient = formed * upstream[0].to(formed.dtype)
        else:
            upsampling, wanted = ctx.geometry
            logits, target, weight, log_prior = ctx.saved_tensors
            with torch.no_grad():
                _, gradient = _run(logits, target, weight, log_prior, upsampling, wanted, upstream)
        return as_last_derivative(gradient), None, None, None, None, None


def _computed_in(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _run(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    log_prior: Tensor | None,
    upsampling: Upsampling,
    wanted: Wanted,
    upstream: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Packed sums (cross-entropy, divergence, probabilities, penalties), and the gradient of their product with upstream."""
    dtype, c = _computed_in(logits), wanted.num_classes
    order = torch.tensor(wanted.order, device=logits.device) if wanted.outside else None
    # Where a label stands in that order; -1 outside the set, and for pixels without a label.
    place = torch.full((c + 1,), -1, device=logits.device)
    place[list(wanted.members)] = torch.arange(wanted.outside, c, device=logits.device)
    blocks = UpsampledBlocks(upsampling, logits.new_empty(logits.shape[-2:], dtype=dtype), c)
    gradient = torch.zeros_like(logits) if upstream is not None else logits.new_empty(0)
    factors = None if upstream is None else _unpack(upstream.to(dtype), order)
    parts = [torch.zeros(2 + 2 * c, dtype=dtype, device=logits.device)]
    with full_precision(logits.device.type):
        for index, low in enumerate(logits):
            low = (low if order is None else low[order]).transpose(0, 1).to(dtype)
            low = (low * _LOG2E).contiguous()
            total = None if factors is None else torch.zeros_like(low)
            labels = target[index].long()
            known = labels != wanted.ignore_index
            places = place[labels.where(known, c)]
            counted = known if wanted.penalty_pixels == "labelled" else places >= 0
            for band in blocks.bands(low):
                for block in band.blocks:
                    where, penalised = block.of(places), block.of(counted)
                    own = int((where >= 0).sum())
                    if not own and not (wanted.penalty and penalised.any()):
                        continue
                    values = band.upsampled(block)
                    each = None if weight is None else block.of(weight[index]).to(dtype)
                    parts.append(_of_block(values, where, own, penalised, each, log_prior, wanted, factors))
                    if total is not None:
                        band.add_adjoint(values, block)
                if total is not None:
                    band.pull(total)
            if total is not None:
                gradient[index, slice(None) if order is None else order] = total.transpose(0, 1).to(gradient.dtype)
    sums = torch.stack(parts).sum(dim=0)
    if order is not None:
        ordered, sums = sums, sums.clone()
        sums[2 + order], sums[2 + c + order] = ordered[2 : 2 + c], ordered[2 + c :]
    return sums, gradient


def _unpack(upstream: Tensor, order: Tensor | None) -> Sums:
    c = (len(upstream) - 2) // 2
    probabilities, penalties = upstream[2 : 2 + c], upstream[2 + c :]
    if order is not None:
        probabilities, penalties = probabilities[order], penalties[order]
    return Sums(upstream[0], upstream[1], probabilities, penalties)


def _of_block(
    values: Tensor,
    where: Tensor,
    own: int,
    penalised: Tensor,
    weight: Tensor | None,
    log_prior: Tensor | None,
    wanted: Wanted,
    upstream: Sums | None,
) -> Tensor:
    """Packed sums of one block (classes, pixels); with upstream factors, ``values`` become the gradient.

    ``values`` are logits times log2 e; the gradient is with respect to the logits.
    """
    sums = values.new_zeros(2 + 2 * wanted.num_classes)
    outside = values[: wanted.outside]
    pull = None
    if wanted.penalty:
        counts = penalised.to(values.dtype)
        size = outside.square().mul_(_LN2**2) if wanted.penalty == "square" else outside.abs().mul_(_LN2)
        sums[2 + wanted.num_classes :][: wanted.outside] = size @ counts
        if upstream is not None:
            slope = outside * (2 * _LN2) if wanted.penalty == "square" else outside.sign()
            pull = slope.mul_(upstream.penalties[: wanted.outside, None]).mul_(counts)
    if own >= _FEW * len(where):
        _of_own(values, where, weight, log_prior, wanted, upstream, sums)
    else:
        pixels = (where >= 0).nonzero().squeeze(1)
        few = values[:, pixels]
        each = None if weight is None else weight[pixels]
        if own:
            _of_own(few, where[pixels], each, log_prior, wanted, upstream, sums)
        if upstream is not None:
            values.zero_().index_copy_(1, pixels, few)
    if pull is not None:
        outside += pull
    return sums


def _of_own(
    values: Tensor,
    where: Tensor,
    weight: Tensor | None,
    log_prior: Tensor | None,
    wanted: Wanted,
    upstream: Sums | None,
    sums: Tensor,
) -> None:
    """Cross-entropy and divergence of own pixels, in place: ``values`` become exponentials, then the gradient.

    With P = softmax over the set, s = probability of the set among all classes and M the derivative of the divergence with
    respect to p (a constant of each class for summed probabilities, log p/q + 1 for a pixel's own divergence)::

        over the set:     P (M - <P, M>)
        over all classes: s P (M - s <P, M>) inside, - P_all s <P, M> outside

    Logarithms are to base 2, until they become sums.
    """
    own = (where >= 0).to(values.dtype)
    weight = own if weight is None else own * weight
    label = where.clamp(min=0).unsqueeze(0)
    inside, outside = values[wanted.outside :], values[: wanted.outside]
    chosen = values.gather(0, label).squeeze(0)
    by_pixel = wanted.divergence == "pixel"
    excess = inside.clone() if by_pixel else None  # becomes log P/q
    log_set, per_set = _exponentials(inside)
    log_all = log_set
    whole = bool(wanted.outside) and "all" in (wanted.softmax, wanted.divergence and wanted.divergence_softmax)
    if whole:
        log_outside, per_outside = _exponentials(outside)
        log_all = torch.logaddexp2(log_set, log_outside)
    log_share = log_set - log_all
    # log s where the divergence runs over all classes, else log 1.
    log_scale = log_share if wanted.divergence_softmax == "all" else torch.zeros_like(log_share)
    scale = log_scale.exp2()
    sums[0] = _LN2 * (weight @ ((log_all if wanted.softmax == "all" else log_set) - chosen))
    if wanted.divergence == "batch":
        sums[2 : 2 + wanted.num_classes][wanted.outside :] = inside @ (own * scale * per_set)
    elif excess is not None and log_prior is not None:
        excess -= log_set
        excess -= _LOG2E * log_prior.to(values.dtype).unsqueeze(1)
        mean_excess = (inside * excess).sum(dim=0) * per_set
        sums[1] = _LN2 * ((own * scale) @ (mean_excess + log_scale))
    if upstream is None:
        return

    pull = weight * upstream.cross_entropy  # of cross-entropy, on every probability
    on_set = pull * log_share.exp2() if wanted.softmax == "all" else pull
    on_outside = pull if wanted.softmax == "all" else torch.zeros_like(pull)
    if wanted.divergence == "batch":
        constant = upstream.probabilities[wanted.outside :]
        mean_slope = own * scale * (constant @ inside) * per_set  # s <P, M>
        base, rate = (on_set - scale * mean_slope) * per_set, own * scale * per_set
        inside.mul_(torch.addr(base.expand_as(inside), constant, rate))
    elif excess is not None:
        each = own * (upstream.divergence * _LN2)
        mean_slope = each * scale * (mean_excess + log_scale + _LOG2E)
        base, rate = on_set - scale * mean_slope + each * scale * (log_scale + _LOG2E), each * scale
        inside.mul_(excess.mul_(rate * per_set).add_(base * per_set))
    else:
        mean_slope = torch.zeros_like(pull)
        inside.mul_(on_set * per_set)
    if whole:
        if wanted.divergence_softmax == "all":
            on_outside = on_outside - mean_slope
        outside.mul_(on_outside * per_outside * (log_outside - log_all).exp2())
    else:
        outside.zero_()
    values.scatter_add_(0, label, -pull.unsqueeze(0))


def _exponentials(values: Tensor) -> tuple[Tensor, Tensor]:
    """Turn ``values`` into 2^(values - top), in place; returns the log2 of their sum and what the powers divide by."""
    top = values.amax(dim=0)
    total = values.sub_(top).exp2_().sum(dim=0)
    return top + total.log2(), total.reciprocal()
