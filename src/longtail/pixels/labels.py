"""Labels at the image's size, in memory of a band of rows."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from longtail.ensembles.base import Ensemble
from longtail.ensembles.learned import LearnedEnsemble
from longtail.ensembles.nested_chain import NestedChain
from longtail.pixels.bands import BAND_ELEMENTS, upsampled_bands
from longtail.pixels.chain import ChainScores
from longtail.pixels.learned import LearnedScores
from longtail.pixels.upsampling import Upsampling
from longtail.precision import at_least_float32
from longtail.shapes import ClassMaps


@torch.no_grad()
def upsampled_labels(
    read: Callable[..., Tensor], low: Float[Tensor, "*channels h w"], upsampling: Upsampling, *maps: Tensor
) -> Integer[Tensor, "n H W"]:
    """``read(upsampling(low), *maps).argmax(dim=1)``, in memory of one band of rows.

    Args:
        read: A band (*channels, rows, W) and the same rows of ``maps`` -> scores (n, classes, rows, W); it must treat every
            pixel alone.
        low: Map at the head's own resolution; half precision is read in float32.
        upsampling: From there to the image's size.
        maps: What else is known of each pixel, (..., H, W).
    """
    low = at_least_float32(low)
    labels = []
    for band, values in upsampled_bands(low, upsampling):
        labels.append(most_probable(read(values, *(part[..., band.rows, :] for part in maps))))
    return torch.cat(labels, dim=1)


@torch.no_grad()
def map_labels(values: ClassMaps, upsampling: Upsampling) -> Integer[Tensor, "n H W"]:
    """``upsampling(values).argmax(dim=1)``, which interpolates only pixels between positions of different classes.

    Where the four positions around a pixel have the same largest channel, the pixel has it as well, since bilinear weights
    are not negative. On maps of objects these are most pixels.

    Args:
        values: Logits or probabilities; half precision is read in float32.
        upsampling: From there to the image's size.
    """
    values = at_least_float32(values)
    own = most_probable(values)
    height, width = values.shape[-2:]
    if (height, width) == upsampling.padded:
        return own[:, : upsampling.size[0], : upsampling.size[1]]
    top, left = upsampling.taps(0, height)[0], upsampling.taps(1, width)[0]
    down, right = (torch.arange(1, side + 1).clamp(max=side - 1) for side in (height, width))
    mixed = (own != own[:, down]) | (own != own[..., right]) | (own != own[:, down][..., right])
    labels, pixels = (part[:, top][..., left] for part in (own, mixed))
    step = max(1, BAND_ELEMENTS.get(values.device.type, BAND_ELEMENTS["cuda"]) // (2 * values.shape[1]))
    found = [most_probable(scores) for scores in upsampling.scores_at(values, pixels, step)]
    return labels.masked_scatter_(pixels, torch.cat(found))


@torch.no_grad()
def ensemble_labels(
    ensemble: Ensemble, logits: Float[Tensor, "experts n classes h w"], upsampling: Upsampling
) -> Integer[Tensor, "n H W"]:
    """Most probable classes of an ensemble that reads no features.

    Args:
        ensemble: Any; the learned one and the nested chain are read without the normalisations that move no label.
        logits: Of every expert, at the heads' own resolution.
        upsampling: From there to the image's size.
    """
    if isinstance(ensemble, LearnedEnsemble):
        scores = LearnedScores(ensemble)
        return upsampled_labels(scores, scores.prepare(logits), upsampling)
    if isinstance(ensemble, NestedChain) and len(logits) == len(ensemble.group_sizes):
        chain = ChainScores(ensemble)
        return ensemble.members[upsampled_labels(chain, chain.prepare(logits), upsampling)]
    return upsampled_labels(ensemble, logits, upsampling)


def most_probable(scores: Float[Tensor, "n classes *grid"]) -> Integer[Tensor, "n *grid"]:
    """``scores.argmax(dim=1)``: the first class with the largest score.

    On a CPU, argmax goes through the scores one by one. The largest score, the classes that have it, and the sum of their
    numbers are vector operations, 6 to 20 times faster in the cache. Classes are numbered from a power of 2 above all of
    them, so that ties are detectable; only tied positions need the argmax.

    Args:
        scores: Any; NaN counts as largest, as in argmax.
    """
    if scores.device.type != "cpu" or scores.dtype not in (torch.float32, torch.float64):
        return scores.argmax(dim=1)
    largest = scores.amax(dim=1, keepdim=True)
    is_largest = torch.ge(scores, largest, out=torch.empty_like(scores))
    first = 1 << (scores.shape[1] - 1).bit_length()
    number = torch.arange(first, first + scores.shape[1], dtype=scores.dtype)
    total = is_largest.mul_(number.view(-1, *[1] * (scores.ndim - 2))).sum(dim=1)
    labels = (total - first).long()
    unclear = ((total < first) | (total >= 2 * first)).nonzero(as_tuple=True)
    if len(unclear[0]):
        labels[unclear] = scores.movedim(1, -1)[unclear].argmax(dim=-1)
    return labels
