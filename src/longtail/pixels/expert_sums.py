"""Sums that the default reading of MEDOE's expert loss is made of, with the gradient in closed form."""

import math
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from longtail.pixels.bands import not_compiled, sum_over_bands, upsampled_bands
from longtail.pixels.upsampling import Upsampling
from longtail.precision import at_least_float32, full_precision
from longtail.shapes import ClassMaps, Scalar

#: Up to this share of the pixels they are interpolated one by one.
FEW_PIXELS = 1 / 8
#: Exponentials are powers of 2, of logits scaled once at the head's resolution: exp2 is cheaper than exp.
_LOG2E, _LN2 = math.log2(math.e), math.log(2)


class SoftmaxSums(NamedTuple):
    """Sums over the labelled pixels.

    Attributes:
        cross_entropy: ``Σ -log softmax(z)^y``, the softmax over all classes.
        predictions: ``Σ softmax_S(z)``, the softmax over the label set S alone.
    """

    cross_entropy: Scalar
    predictions: Float[Tensor, " set"]


@not_compiled
def softmax_sums(
    logits: ClassMaps,
    target: Integer[Tensor, "n H W"],
    label_set: Bool[Tensor, " classes"],
    upsampling: Upsampling,
    *,
    ignore_index: int = 255,
    weight: Float[Tensor, "n H W"] | None = None,
) -> SoftmaxSums:
    """Summed cross-entropy and predictions of ``upsampling(logits)``, without that map.

    Few labelled pixels are interpolated one by one. Many are gone through in bands of rows, once for the sums and once more
    for the gradient, which needs the summed predictions first; to interpolate again costs less than to read a saved map.
    Values and gradients of any order are those of the whole map, to rounding; in float32 for half-precision logits.

    Args:
        logits: z at the head's own resolution.
        target: Labels of the set; all other pixels hold ``ignore_index``.
        label_set: S as a mask over the classes.
        upsampling: From the logits to the target's size.
        ignore_index: Target value of pixels that do not count.
        weight: Factor of each pixel's cross-entropy; it gets no gradient.

    Source: MEDOE Eq. 3-4; the algebra, docs/decisions/0002.
    """
    return SoftmaxSums(
        *_SoftmaxSums.apply(at_least_float32(logits), target, weight, label_set, upsampling, ignore_index)
    )


def squared_sums(
    logits: ClassMaps, counted: Bool[Tensor, "n H W"], upsampling: Upsampling
) -> Float[Tensor, " classes"]:
    """``Σ z²`` of ``upsampling(logits)`` over the counted pixels, for each class.

    The sum over all pixels is a quadratic form at the head's own resolution; few others are interpolated and taken off.

    Args:
        logits: z at the head's own resolution.
        counted: Pixels of the sum.
        upsampling: From the logits to the image's size.

    Source: MEDOE Eq. 4, first term; docs/decisions/0002.
    """
    logits = at_least_float32(logits)
    others = ~counted
    if int(others.sum()) > 2 * FEW_PIXELS * others.numel():
        (sums,) = sum_over_bands(_squares, logits, upsampling, counted)
        return sums
    with full_precision(logits.device.type):
        sums = upsampling.sums_of_squares(logits)
    if others.any():
        sums = (sums - upsampling.at(logits, others).square().sum(dim=0)).clamp(min=0)
    return sums.where(counted.any(), 0)  # no pixel counts: zero, not a rounding error


def _squares(logits: ClassMaps, counted: Bool[Tensor, "n h w"]) -> tuple[Tensor]:
    return (torch.einsum("nchw,nhw->c", logits.square(), counted.to(logits.dtype)),)


def _as_written(
    logits: Tensor, target: Tensor, weight: Tensor, label_set: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """The two sums as stock calls."""
    each = F.cross_entropy(logits, target.long(), ignore_index=ignore_index, reduction="none")
    counted = (target != ignore_index).to(logits.dtype)
    return (weight * each).sum(), torch.einsum("nchw,nhw->c", logits[:, label_set].softmax(dim=1), counted)


class _SoftmaxSums(torch.autograd.Function):
    """The two sums in closed form. A gradient that is to be differentiated again comes from the bands of ``_as_written``."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        label_set: Tensor,
        upsampling: Upsampling,
        ignore_index: int,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(logits, target, weight, label_set)
        ctx.options = upsampling, ignore_index
        ctx.set_materialize_grads(False)
        total, predictions, _ = _run(logits, target, weight, label_set, *ctx.options)
        return total, predictions

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        logits, target, weight, label_set = ctx.saved_tensors
        upsampling, ignore_index = ctx.options
        if torch.is_grad_enabled():
            weight = torch.ones_like(target, dtype=logits.dtype) if weight is None else weight
            written = partial(_as_written, label_set=label_set, ignore_index=ignore_index)
            sums = sum_over_bands(written, logits, upsampling, target, weight)
            pairs = [(value, own) for value, own in zip(sums, upstream, strict=True) if own is not None]
            values, given = zip(*pairs, strict=True)
            (gradient,) = torch.autograd.grad(values, logits, given, create_graph=True)
        else:
            _, _, gradient = _run(logits, target, weight, label_set, upsampling, ignore_index, upstream)
        return gradient, None, None, None, None, None


def _run(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    label_set: Tensor,
    upsampling: Upsampling,
    ignore_index: int,
    upstream: tuple[Tensor | None, ...] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy, predictions, and with upstream factors the gradient of the products with them."""
    classes, outside = len(label_set), int((~label_set).sum())
    order = label_set.to(torch.uint8).argsort(stable=True)  # classes of the set last: masks become slices
    position = torch.empty_like(order)
    position[order] = torch.arange(classes, device=logits.device)
    total, predictions = logits.new_zeros(()), logits.new_zeros(classes - outside)
    gradient = torch.zeros_like(logits) if upstream else logits
    labelled = target != ignore_index

    def add(values: Tensor, labels: Tensor, known: Tensor, each: Tensor | None) -> None:
        """Add the sums of some pixels; with upstream factors, ``values`` become the gradient."""
        counted = known.to(values.dtype)
        factor = counted if each is None else each * counted
        place = position[labels.long().where(known, 0)]
        own_total, own_predictions = _of_pixels(values, place, counted, factor, outside, upstream)
        total.add_(own_total)
        predictions.add_(own_predictions)

    with full_precision(logits.device.type):
        for index, image in enumerate(logits.detach()):
            known, labels, each = labelled[index], target[index], None if weight is None else weight[index]
            if int(known.sum()) <= FEW_PIXELS * known.numel():
                values = upsampling.at(image.unsqueeze(0), known.unsqueeze(0)).T[order].mul_(_LOG2E)
                add(values, labels[known], known[known], None if each is None else each[known])
                if upstream:
                    (pulled,) = upsampling.at_adjoint(values.T, known.unsqueeze(0), image.shape[-2:])
            else:
                low = (image[order] if outside else image) * _LOG2E
                pulled = torch.zeros_like(low) if upstream else low
                for band, values in upsampled_bands(low, upsampling):
                    own, counted = labels[band.rows].flatten(), known[band.rows].flatten()
                    add(values.flatten(1), own, counted, None if each is None else each[band.rows].flatten())
                    if upstream:
                        pulled[:, band.inputs] += band.adjoint(values, low.shape[-1])
            if upstream:
                gradient[index, order if outside else slice(None)] = pulled
    return total, predictions, gradient


def _of_pixels(
    values: Float[Tensor, "classes pixels"],
    label: Integer[Tensor, " pixels"],
    counted: Float[Tensor, " pixels"],
    weight: Float[Tensor, " pixels"],
    outside: int,
    upstream: tuple[Tensor | None, ...] | None,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and predictions of some pixels; with upstream factors, ``values`` become the gradient.

    With P = softmax over the set, p = softmax over all classes and M the factors of the predictions, the gradient is
    ``p - [y]`` times the factor of cross-entropy, and inside the set also ``P (M - <P, M>)``.

    Args:
        values: Logits times log2 e, the first ``outside`` classes not of the set; they become exponentials, then the gradient
            with respect to the logits.
        label: Row of each pixel's class, any for a pixel that does not count.
        counted: 1 for the pixels that count, 0 for the others.
        weight: Factor of each pixel's cross-entropy, 0 for a pixel that does not count.
        outside: Number of classes that are not in the set.
        upstream: Factors of the two sums.
    """
    label = label.unsqueeze(0)
    chosen = values.gather(0, label).squeeze(0)
    inside, others = values[outside:], values[:outside]
    log_all, per_set = _exponentials(inside)
    per_all = per_set
    if outside:
        log_set, (log_others, per_others) = log_all, _exponentials(others)
        log_all = torch.logaddexp2(log_set, log_others)
        per_all, per_others = per_set * (log_set - log_all).exp2(), per_others * (log_others - log_all).exp2()
    total = _LN2 * (weight @ (log_all - chosen))
    per_set = per_set * counted
    predictions = inside @ per_set
    if upstream is None:
        return total, predictions
    on_loss, on_predictions = upstream
    pull = torch.zeros_like(weight) if on_loss is None else weight * on_loss
    if on_predictions is None:
        inside.mul_(pull * per_all)
    else:
        slope = (on_predictions @ inside) * per_set
        inside.mul_(torch.addr((pull * per_all - slope * per_set).expand_as(inside), on_predictions, per_set))
    if outside:
        others.mul_(pull * per_others)
    values.scatter_add_(0, label, -pull.unsqueeze(0))
    return total, predictions


def _exponentials(values: Tensor) -> tuple[Tensor, Tensor]:
    """Turn ``values`` into 2^(values - top), in place; returns the log2 of their sum and what the powers divide by."""
    top = values.amax(dim=0)
    total = values.sub_(top).exp2_().sum(dim=0)
    return top + total.log2(), total.reciprocal()
