"""The diverse distribution-aware loss of one expert, term by term."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from longtail.distributed import all_reduce_sum, sum_over_ranks, world_size
from longtail.errors import ConfigError
from longtail.losses.cross_entropy import Normalizer, cross_entropy
from longtail.medoe.experts import mask_labels
from longtail.pixels.upsampled_sums import Wanted, upsampled_sums
from longtail.pixels.upsampling import Upsampling
from longtail.settings import check_fields

Scope = Literal["all", "set"]
_PRIOR_FLOOR = 1e-8
_LOG_FLOOR = 1e-30
#: Up to this share of the pixels, an expert's are interpolated one by one.
_FEW_PIXELS = 1 / 8


@dataclass(frozen=True)
class ExpertLossOptions:
    """How Eq. 3-5 are read. The defaults are SPEC's recommendations; every other value is a reading worth a run.

    Args:
        alpha: Weight α of the auxiliary loss (Eq. 5).
        softmax: Cross-entropy's softmax over ``all`` classes, or over the label ``set`` alone.
        normalizer: What cross-entropy's sum is divided by: labelled pixels of the expert, all pixels, or 1.
        penalty: ‖z‖ of Eq. 4: mean ``square``, mean ``absolute`` value, or the 2-norm of the whole ``map``, which grows
            with the number of pixels and silences the experts (SPEC finding 3); it is here for the record.
        penalty_pixels: Pixels of the penalty: every pixel that has a label, be it one of other experts alone (those of
            expert 1 reach the encoder), or those labelled for the expert.
        divergence: KL of the ``batch``'s mean prediction, or the mean of every ``pixel``'s KL, which punishes being
            sure of a rare class (SPEC finding 3).
        divergence_softmax: p over the label ``set`` (a true divergence), or over ``all`` classes, restricted to the set.
        prior: q renormalised within the label set, or the ``raw`` shares of the data set.
        momentum: Share of the running mean prediction in p̄, for small batches; 0 uses the batch alone. The gradient is
            the batch's own, whatever the share.

    Source: MEDOE Eq. 3-5; SPEC §2.3-2.5.
    """

    alpha: float = 0.2
    softmax: Scope = "all"
    normalizer: Normalizer = "valid"
    penalty: Literal["square", "absolute", "map"] = "square"
    penalty_pixels: Literal["labelled", "expert"] = "labelled"
    divergence: Literal["batch", "pixel"] = "batch"
    divergence_softmax: Scope = "set"
    prior: Literal["renormalised", "raw"] = "renormalised"
    momentum: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.alpha >= 0 or not 0 <= self.momentum < 1:
            raise ConfigError(
                f"alpha {self.alpha} or momentum {self.momentum} is out of range",
                fix="use alpha >= 0, 0 <= momentum < 1",
            )
        if self.momentum and self.divergence == "pixel":
            raise ConfigError("a running mean has no meaning for a divergence per pixel", fix="set momentum to 0")


def interference_penalty(
    logits: Float[Tensor, "n classes *grid"],
    label_set: Bool[Tensor, " classes"],
    pixels: Bool[Tensor, "n *grid"],
    kind: Literal["square", "absolute", "map"] = "square",
) -> Float[Tensor, ""]:
    """L2 regularisation of the logits of interfering categories: ``Σ_{j ∉ S_i} mean_pixels (z^j)²``.

    Exactly 0 where the set holds every class or no pixel counts.

    Args:
        logits: z_i.
        label_set: S_i.
        pixels: Where the logits are regularised.
        kind: See ``ExpertLossOptions.penalty``.

    Source: MEDOE Eq. 4, first term; SPEC §2.4, 1-2.
    """
    interfering = logits[:, ~label_set].float()
    count = pixels.sum().clamp(min=1)
    if kind == "map":
        per_category = interfering.square().where(pixels.unsqueeze(1), 0).sum(dim=[0, *range(2, logits.ndim)])
        # The root has no gradient at 0, where a category's map starts out.
        return (per_category + _LOG_FLOOR).sqrt().sum()
    # A norm over the categories of each pixel: one pass over the logits each way, where mask and square would take four.
    per_pixel = torch.linalg.vector_norm(interfering, ord=2 if kind == "square" else 1, dim=1)
    per_pixel = per_pixel.square() if kind == "square" else per_pixel
    return per_pixel.where(pixels, 0).sum() / count


def _upsampled_penalty(
    logits: Tensor, label_set: Tensor, pixels: Tensor, upsampling: Upsampling, kind: Literal["square", "map"]
) -> Tensor:
    """``interference_penalty`` of upsampled logits for most pixels, without the map: all pixels less those left out."""
    interfering = logits.index_select(1, (~label_set).nonzero().squeeze(1))
    sums = upsampling.sums_of_squares(interfering)
    if not pixels.all():
        sums = (sums - upsampling.at(interfering, ~pixels).square().sum(dim=0)).clamp(min=0)
    sums = sums.where(pixels.any(), 0)  # no pixel counts: zero, not a rounding error
    if kind == "map":
        return (sums + _LOG_FLOOR).sqrt().sum()
    return sums.sum() / pixels.sum().clamp(min=1)


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


def mean_prediction(
    logits: Float[Tensor, "n classes *grid"],
    label_set: Bool[Tensor, " classes"],
    pixels: Bool[Tensor, "n *grid"],
    softmax: Scope = "set",
) -> Float[Tensor, " set"]:
    """p̄_i: mean over pixels of the predicted probabilities of the label set; zeros where no pixel counts."""
    if softmax == "set":
        logits = logits.masked_fill(~_channel(label_set, logits), -torch.inf)
    probabilities = logits.softmax(dim=1)
    summed = torch.einsum("nc...,n...->c", probabilities, pixels.to(probabilities.dtype))
    return summed[label_set] / pixels.sum().clamp(min=1)


class _Statistics(NamedTuple):
    """What the terms are made of.

    Attributes:
        cross_entropy: Its sum over the expert's pixels.
        penalty: ‖z‖ of Eq. 4, as the options read it.
        mean: p̄ over the label set, for the ``batch`` divergence.
        divergence: Mean of every pixel's, for the ``pixel`` divergence.
    """

    cross_entropy: Tensor
    penalty: Tensor | None
    mean: Tensor | None
    divergence: Tensor | None


class ExpertLoss(nn.Module):
    """L_i = L_ce,i + α L_aux,i of one expert, as named terms.

    Logits below the target's size never become the map: few pixels carry a rare label and are interpolated one by one, many
    block by block (``upsampled_sums``). Logits of the target's size, and all where ``blockwise`` is off, go through the
    equations as they stand.

    Args:
        label_set: S_i as a mask over the C classes.
        prior: (C,) share of each class in the training data, F(j).
        options: How the equations are read.
        ignore_index: Target value of pixels without a label.
        blockwise: Whether the map may be left unmade. The values are the same; a loss in blocks has no second derivative.

    What is a mean over pixels is one over those of all ranks: a rank that shows nothing of a rare class takes no weight from
    one that does.

    Source: MEDOE Eq. 3-5.
    """

    def __init__(
        self,
        label_set: Bool[Tensor, " classes"],
        prior: Float[Tensor, " classes"],
        options: ExpertLossOptions | None = None,
        ignore_index: int = 255,
        *,
        blockwise: bool = True,
    ) -> None:
        super().__init__()
        self.options = options or ExpertLossOptions()
        self.ignore_index = ignore_index
        self.blockwise = blockwise
        self.register_buffer("label_set", label_set, persistent=False)
        within = prior_within(prior.float(), label_set, renormalised=self.options.prior == "renormalised")
        self.register_buffer("prior", within, persistent=False)
        # Training state, only where asked for: the running mean prediction.
        self.register_buffer("running_mean", within.clone() if self.options.momentum else None)
        self.everything = bool(label_set.all())
        self.wanted = self._wanted(tuple(label_set.nonzero().squeeze(1).tolist()))
        self.label_set: Tensor
        self.prior: Tensor
        self.running_mean: Tensor | None

    def forward(
        self,
        logits: Float[Tensor, "n classes h w"],
        target: Integer[Tensor, "n H W"],
        upsampling: Upsampling | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Terms ``ce``, ``l2`` and ``kl``, already weighted by α; absent terms (α = 0, nothing to interfere) are left out.

        Args:
            logits: z_i, at the head's own resolution.
            target: *Unmasked* class ids and ``ignore_index``.
            upsampling: From the logits to the target's size; None where they have it.
        """
        options = self.options
        upsampling = upsampling or Upsampling((target.shape[-2], target.shape[-1]))
        masked = mask_labels(target, self.label_set, self.ignore_index)
        own_pixels = masked != self.ignore_index
        labelled = target != self.ignore_index
        penalised = own_pixels if options.penalty_pixels == "expert" else labelled
        if not self.blockwise or logits.shape[-2:] == target.shape[-2:]:
            found = self._of_the_map(upsampling(logits.float()), masked, own_pixels, penalised)
        elif self._few(own_pixels, penalised):
            found = self._of_single_pixels(logits.float(), masked, upsampling, own_pixels, penalised)
        else:
            found = self._in_blocks(logits, target, upsampling, own_pixels.sum(), penalised.sum())
        counts = torch.stack([own_pixels.sum(), penalised.sum()])
        totals = all_reduce_sum(counts)
        any_own, totals = totals[0] > 0, totals.clamp(min=1)
        # From this rank's means to its parts of the means over all ranks' pixels; gradients are averaged over ranks.
        own, regularised = counts * world_size() / totals
        terms = {}
        if found.penalty is not None:
            terms["l2"] = options.alpha * found.penalty * (1 if options.penalty == "map" else regularised)
        divisors: dict[Normalizer, Tensor | int] = {
            "valid": totals[0] / world_size(),
            "all": max(1, target.numel()),
            "sum": 1,
        }
        terms["ce"] = found.cross_entropy / divisors[options.normalizer]
        if found.divergence is not None:
            terms["kl"] = options.alpha * found.divergence * own
        elif found.mean is not None:
            mean = sum_over_ranks(found.mean * (counts[0] / totals[0]))
            terms["kl"] = options.alpha * self._divergence_of_mean(mean, any_own)
        return terms

    def _of_the_map(self, logits: Tensor, masked: Tensor, own: Tensor, penalised: Tensor) -> _Statistics:
        """The equations as they stand, on logits of the target's size."""
        penalty = None
        if self.wanted.penalty:
            penalty = interference_penalty(logits, self.label_set, penalised, self.options.penalty)
        return self._of_logits(logits, masked, own, penalty)

    def _of_single_pixels(
        self, logits: Tensor, masked: Tensor, upsampling: Upsampling, own: Tensor, penalised: Tensor
    ) -> _Statistics:
        """The same from the expert's pixels alone, and a quadratic form for the penalty of nearly all."""
        penalty = None
        if self.wanted.penalty:
            kind: Literal["square", "map"] = "map" if self.options.penalty == "map" else "square"
            penalty = _upsampled_penalty(logits, self.label_set, penalised, upsampling, kind)
        pixels = upsampling.at(logits, own)
        return self._of_logits(pixels, masked[own], torch.ones_like(pixels[:, 0], dtype=torch.bool), penalty)

    def _of_logits(self, logits: Tensor, masked: Tensor, own: Tensor, penalty: Tensor | None) -> _Statistics:
        options, label_set = self.options, self.label_set
        mean = divergence = None
        if options.alpha and options.divergence == "batch":
            mean = mean_prediction(logits, label_set, own, options.divergence_softmax)
        elif options.alpha:
            probabilities = _set_probabilities(logits, label_set, options.divergence_softmax)
            each = prior_divergence(probabilities.movedim(1, -1), self.prior)
            divergence = each.where(own, 0).sum() / own.sum().clamp(min=1)
        scores = logits if options.softmax == "all" else logits.masked_fill(~_channel(label_set, logits), -torch.inf)
        total = cross_entropy(scores, masked, ignore_index=self.ignore_index, normalizer="sum")
        return _Statistics(total, penalty, mean, divergence)

    def _few(self, own: Tensor, penalised: Tensor) -> bool:
        """Whether single pixels are cheaper than blocks: few are the expert's, few are left out of the quadratic form."""
        limit = _FEW_PIXELS * own.numel()
        if self.wanted.penalty == "absolute" or int(own.sum()) > limit:
            return False
        return not self.wanted.penalty or int((~penalised).sum()) <= 2 * limit

    def _in_blocks(
        self, logits: Tensor, target: Tensor, upsampling: Upsampling, own: Tensor, penalised: Tensor
    ) -> _Statistics:
        """The same from sums over the blocks of a map that is not made; ``own`` and ``penalised`` count pixels."""
        wanted = self.wanted
        sums = upsampled_sums(logits, target, upsampling, wanted, log_prior=self.prior.log())
        penalty = None
        if wanted.penalty and self.options.penalty == "map":
            # The root has no gradient at 0, where a category's map starts out.
            penalty = (sums.penalties[~self.label_set] + _LOG_FLOOR).sqrt().sum()
        elif wanted.penalty:
            penalty = sums.penalties.sum() / penalised.clamp(min=1)
        mean = sums.probabilities[self.label_set] / own.clamp(min=1) if wanted.divergence == "batch" else None
        divergence = sums.divergence / own.clamp(min=1) if wanted.divergence == "pixel" else None
        return _Statistics(sums.cross_entropy, penalty, mean, divergence)

    def _wanted(self, members: tuple[int, ...]) -> Wanted:
        options = self.options
        penalty: Literal["square", "absolute"] = "absolute" if options.penalty == "absolute" else "square"
        return Wanted(
            members,
            len(self.label_set),
            self.ignore_index,
            softmax=options.softmax,
            divergence=options.divergence if options.alpha else None,
            divergence_softmax=options.divergence_softmax,
            penalty=penalty if options.alpha and not self.everything else None,
            penalty_pixels=options.penalty_pixels,
        )

    def _divergence_of_mean(self, mean: Tensor, labelled: Tensor) -> Tensor:
        if self.running_mean is not None:
            own = mean - mean.detach()  # the batch's gradient as it is, or momentum would weaken α
            mean = self.options.momentum * self.running_mean + (1 - self.options.momentum) * mean.detach()
            if self.training:
                self.running_mean = mean.where(labelled, self.running_mean)
            mean = mean + own
        # Without a labelled pixel the mean prediction is undefined; the product keeps the graph connected for DDP.
        return prior_divergence(mean, self.prior).where(labelled, 0)


def _channel(per_class: Tensor, logits: Tensor) -> Tensor:
    return per_class.view(1, -1, *[1] * (logits.ndim - 2))


def _set_probabilities(logits: Tensor, label_set: Tensor, softmax: Scope) -> Tensor:
    if softmax == "all":
        return logits.softmax(dim=1)[:, label_set]
    return logits[:, label_set].softmax(dim=1)
