"""Labelled positions as rows: what losses that treat every position alone are computed on."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor


class Rows(NamedTuple):
    """The labelled positions of a batch.

    Attributes:
        logits: (m, logits), in single precision at least.
        target: (m,), class ids.
        weight: (m,), factor on each position's share of the loss, or None for 1.
    """

    logits: Tensor
    target: Tensor
    weight: Tensor | None

    def mean(self, each: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        """Sum of every position's share, weighted, divided by the number of positions; 0 where there are none."""
        weighted = each if self.weight is None else self.weight * each
        return weighted.sum() / max(1, len(each))


def labelled_rows(
    logits: Float[Tensor, "n logits *grid"],
    target: Integer[Tensor, "n *grid"],
    position_weight: Float[Tensor, "n *grid"] | None,
    ignore_index: int,
) -> Rows:
    """Positions that have a label, one a row; the gradient of all others is 0."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    labels = target.flatten().long()
    rows = logits.movedim(1, -1).flatten(0, -2)
    kept = (labels != ignore_index).nonzero().squeeze(1)
    weight = None if position_weight is None else position_weight.flatten().to(rows.dtype)[kept]
    return Rows(rows.index_select(0, kept), labels[kept], weight)
