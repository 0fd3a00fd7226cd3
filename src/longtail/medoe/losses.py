"""The diverse distribution-aware loss of one expert, term by term."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from longtail.distributed import all_reduce_sum, sum_over_ranks, world_size
from longtail.losses.cross_entropy import cross_entropy
from longtail.medoe.experts import mask_labels
from longtail.medoe.options import ExpertLossOptions, Penalty, Scope
from longtail.pixels import Upsampling, softmax_sums, squared_sums, sum_over_bands
from longtail.shapes import ClassMaps, Losses, Scalar

_PRIOR_FLOOR = 1e-8
_LOG_FLOOR = 1e-30


def summed_cross_entropy(
    logits: Float[Tensor, "n classes *grid"],
    masked: Integer[Tensor, "n *grid"],
    label_set: Bool[Tensor, " classes"],
    softmax: Scope = "all",
    ignore_index: int = 255,
) -> Scalar:
    """``Σ_own -log softmax(z)^y`` over the pixels labelled for the expert.

    Args:
        logits: z_i.
        masked: Labels of the set; all other pixels hold ``ignore_index``.
        label_set: S_i.
        softmax: Over all classes, or over the set alone.
        ignore_index: Target value of pixels that do not count.

    Source: MEDOE Eq. 3; SPEC §2.3.
    """
    if softmax == "set":
        logits = logits.masked_fill(~label_set.view(-1, *[1] * (logits.ndim - 2)), -torch.inf)
    return cross_entropy(logits, masked, ignore_index=ignore_index, normalizer="sum")


def summed_interference(
    logits: Float[Tensor, "n classes *grid"],
    label_set: Bool[Tensor, " classes"],
    pixels: Bool[Tensor, "n *grid"],
    kind: Penalty = "square",
) -> Float[Tensor, " outside"]:
    """``Σ_pixels (z^j)²`` of each interfering category j ∉ S_i, or ``Σ_pixels |z^j|``.

    Args:
        logits: z_i.
        label_set: S_i.
        pixels: Where the logits are regularised.
        kind: See ``ExpertLossOptions.penalty``.

    Source: MEDOE Eq. 4, first term; SPEC §2.4, 1-2.
    """
    interfering = logits[:, ~label_set]
    size = interfering.abs() if kind == "absolute" else interfering.square()
    return torch.einsum("nc...,n...->c", size, pixels.to(size.dtype))


def interference_penalty(summed: Float[Tensor, " outside"], pixels: Scalar, kind: Penalty = "square") -> Scalar:
    """L2 regularisation of the logits of interfering categories: ``Σ_{j ∉ S_i} mean_pixels (z^j)²``.

    Args:
        summed: ``summed_interference``.
        pixels: Their number.
        kind: See ``ExpertLossOptions.penalty``.

    Source: MEDOE Eq. 4, first term; SPEC §2.4, 1-2.
    """
    if kind == "map":
        return (summed + _LOG_FLOOR).sqrt().sum()  # the root has no gradient at 0, where a category's map starts out
    return summed.sum() / pixels


def set_probabilities(
    logits: Float[Tensor, "n classes *grid"], label_set: Bool[Tensor, " classes"], softmax: Scope = "set"
) -> Float[Tensor, "n set *grid"]:
    """p_i: probabilities of the label set, by a softmax over the set alone or over all classes.

    Source: MEDOE Eq. 4, second term; SPEC §2.4, 3.
    """
    return logits[:, label_set].softmax(dim=1) if softmax == "set" else logits.softmax(dim=1)[:, label_set]


def prior_within(
    prior: Float[Tensor, " classes"], label_set: Bool[Tensor, " classes"], *, renormalised: bool = True
) -> Float[Tensor, " set"]:
    """q_i: share of each class of the label set, renormalised within it; floored, since a class may never occur.

    Source: MEDOE Eq. 4; SPEC §2.4, 4-5.
    """
    inside = prior[label_set]
    if renormalised:
        inside = inside / inside.sum().clamp(min=_PRIOR_FLOOR)
    return inside.clamp(min=_PRIOR_FLOOR)


def prior_divergence(
    probabilities: Float[Tensor, "*rows set"], prior: Float[Tensor, " set"]
) -> Float[Tensor, " *rows"]:
    """``KL(p ‖ q) = Σ_j p^j log(p^j / q^j)`` over the last dimension, with 0 log 0 = 0.

    Source: MEDOE Eq. 4, second term.
    """
    return (probabilities * (probabilities.clamp(min=_LOG_FLOOR).log() - prior.log())).sum(dim=-1)


class ExpertSums(NamedTuple):
    """Sums over pixels for the terms; zero where the reading does not use one.

    Attributes:
        cross_entropy: ``summed_cross_entropy``.
        predictions: Sum of p over the expert's pixels, for the ``batch`` divergence.
        divergence: Sum of each pixel's KL(p ‖ q), for the ``pixel`` divergence.
        interference: ``summed_interference``.
    """

    cross_entropy: Scalar
    predictions: Float[Tensor, " set"]
    divergence: Scalar
    interference: Float[Tensor, " outside"]


class ExpertLoss(nn.Module):
    """L_i = L_ce,i + α L_aux,i of one expert, as named terms.

    Logits below the target's size never become the map. The default reading has its sums in closed form; every other one
    goes through the equations as they stand, in bands of rows.

    Args:
        label_set: S_i as a mask over the C classes.
        prior: (C,) share of each class in the training data, F(j).
        options: How the equations are read.
        ignore_index: Target value of pixels without a label.

    Means over pixels are over the pixels of all ranks: a rank without a rare class takes no weight from
    one that does.

    Source: MEDOE Eq. 3-5.
    """

    def __init__(
        self,
        label_set: Bool[Tensor, " classes"],
        prior: Float[Tensor, " classes"],
        options: ExpertLossOptions | None = None,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        self.options = options or ExpertLossOptions()
        self.ignore_index = ignore_index
        self.register_buffer("label_set", label_set, persistent=False)
        within = prior_within(prior.float(), label_set, renormalised=self.options.prior == "renormalised")
        self.register_buffer("prior", within, persistent=False)
        # Training state, only where asked for: the running mean prediction.
        self.register_buffer("running_mean", within.clone() if self.options.momentum else None)
        self.interferes = bool(self.options.alpha) and not bool(label_set.all())
        self.label_set: Tensor
        self.prior: Tensor
        self.running_mean: Tensor | None

    def forward(
        self, logits: ClassMaps, target: Integer[Tensor, "n H W"], upsampling: Upsampling | None = None
    ) -> Losses:
        """Terms ``ce``, ``l2`` and ``kl``, already weighted by α; absent terms (α = 0, nothing to interfere) are left out.

        Args:
            logits: z_i, at the head's own resolution.
            target: *Unmasked* class ids and ``ignore_index``.
            upsampling: From the logits to the target's size; None where they have it.
        """
        options = self.options
        upsampling = upsampling or Upsampling((target.shape[-2], target.shape[-1]))
        masked = mask_labels(target, self.label_set, self.ignore_index)
        own = masked != self.ignore_index
        penalised = own if options.penalty_pixels == "expert" else target != self.ignore_index
        if options.in_closed_form:
            sums = self._sums_in_closed_form(logits, masked, penalised, upsampling)
        else:
            sums = ExpertSums(*sum_over_bands(self.sums, logits, upsampling, masked, penalised))
        totals = all_reduce_sum(torch.stack([own.sum(), penalised.sum()]))
        # Gradients are averaged over ranks: losses divided by the pixels of all ranks are multiplied by their number.
        own_pixels, penalised_pixels = totals.clamp(min=1) / world_size()
        divisors = {"valid": own_pixels, "all": max(1, target.numel()), "sum": 1}
        terms = {"ce": sums.cross_entropy / divisors[options.normalizer]}
        if self.interferes:
            terms["l2"] = options.alpha * interference_penalty(sums.interference, penalised_pixels, options.penalty)
        if options.alpha and options.divergence == "pixel":
            terms["kl"] = options.alpha * sums.divergence / own_pixels
        elif options.alpha:
            mean = sum_over_ranks(sums.predictions / totals[0].clamp(min=1))
            terms["kl"] = options.alpha * self._divergence_of_mean(mean, totals[0] > 0)
        return terms

    def sums(
        self,
        logits: Float[Tensor, "n classes *grid"],
        masked: Integer[Tensor, "n *grid"],
        penalised: Bool[Tensor, "n *grid"],
    ) -> ExpertSums:
        """Sums over pixels of the target's size, by the equations as they stand.

        Args:
            logits: z_i.
            masked: Labels of the set; all other pixels hold ``ignore_index``.
            penalised: Pixels of the penalty.
        """
        options, own = self.options, masked != self.ignore_index
        summed = summed_cross_entropy(logits, masked, self.label_set, options.softmax, self.ignore_index)
        predictions = divergence = interference = logits.new_zeros(())
        if options.alpha:
            p = set_probabilities(logits, self.label_set, options.divergence_softmax)
            predictions = torch.einsum("nc...,n...->c", p, own.to(p.dtype))
            if options.divergence == "pixel":
                divergence = prior_divergence(p.movedim(1, -1), self.prior).where(own, 0).sum()
        if self.interferes:
            interference = summed_interference(logits, self.label_set, penalised, options.penalty)
        return ExpertSums(summed, predictions, divergence, interference)

    def _sums_in_closed_form(
        self, logits: Tensor, masked: Tensor, penalised: Tensor, upsampling: Upsampling
    ) -> ExpertSums:
        """``sums`` of the default reading, without the map."""
        found = softmax_sums(logits, masked, self.label_set, upsampling, ignore_index=self.ignore_index)
        nothing = found.cross_entropy.new_zeros(())
        interference = squared_sums(logits[:, ~self.label_set], penalised, upsampling) if self.interferes else nothing
        return ExpertSums(found.cross_entropy, found.predictions, nothing, interference)

    def _divergence_of_mean(self, mean: Tensor, labelled: Tensor) -> Tensor:
        """KL(p̄ ‖ q); without a labelled pixel 0, connected to the graph."""
        if self.running_mean is not None:
            own = mean - mean.detach()  # the batch's unscaled gradient; otherwise momentum would weaken α
            mean = self.options.momentum * self.running_mean + (1 - self.options.momentum) * mean.detach()
            if self.training:
                self.running_mean = mean.where(labelled, self.running_mean)
            mean = mean + own
        return prior_divergence(mean, self.prior).where(labelled, 0)
