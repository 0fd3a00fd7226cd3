"""The oracle: every pixel is read by the expert that dominates its true category."""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from longtail.ensembles.argmax import select_expert


def oracle_probabilities(
    logits: Float[Tensor, "experts n classes *grid"],
    target: Integer[Tensor, "n *grid"],
    expert_of: Integer[Tensor, " classes"],
    *,
    restrict_to: Bool[Tensor, "experts classes"] | None = None,
    ignore_index: int = 255,
) -> Float[Tensor, "n classes *grid"]:
    """p_O: softmax of the expert n with y ∈ S_n, y ∉ S_{n+1}.

    An upper bound on what choosing between the experts can reach, not a prediction: it reads the truth. Unlabelled
    pixels are read by expert 1.

    Args:
        logits: Raw outputs of every expert.
        target: True class ids and ``ignore_index``.
        expert_of: (C,) expert that dominates each class.
        restrict_to: (K, C) label sets; where given, expert n's softmax runs over S_n alone. This can only turn wrong
            pixels right, since y ∈ S_n.
        ignore_index: Target value of pixels without a label.

    Source: MEDOE Eq. 6; SPEC §2.6.
    """
    known = target != ignore_index
    expert = expert_of[target.long().where(known, 0)].where(known, 0)
    if restrict_to is not None:
        shape = (len(restrict_to), 1, -1, *[1] * (logits.ndim - 3))
        logits = logits.masked_fill(~restrict_to.view(shape), -torch.inf)
    return select_expert(logits, expert).softmax(dim=1)
