"""Labelled positions as rows: what losses that treat every position alone are computed on."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from longtail.errors import DataError
from longtail.precision import at_least_float32
from longtail.shapes import Logits, PositionWeight, Scalar, Target


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

    def mean(self, each: Float[Tensor, " m"]) -> Scalar:
        """Sum of every position's share, weighted, divided by the number of positions; 0 where there are none."""
        weighted = each if self.weight is None else self.weight * each
        return weighted.sum() / max(1, len(each))


def check_labels(target: Target, num_classes: int, ignore_index: int) -> None:
    """Refuse labels that are neither a class nor ``ignore_index``.

    On a GPU the check is a device-side assertion, which does not make the step wait.

    Raises:
        DataError: There is such a label; names it.
    """
    wrong = ((target < 0) | (target >= num_classes)) & (target != ignore_index)
    if target.device.type == "cuda":
        torch._assert_async(~wrong.any(), f"labels outside 0 … {num_classes - 1} that are not {ignore_index}")
    elif wrong.any():
        raise DataError(
            f"the target holds the labels {target[wrong].unique().tolist()[:5]}, but classes are 0 … {num_classes - 1} "
            f"and {ignore_index} stands for no label",
            fix="number the classes from 0 (subtract 1 from labels 1 … C), or give other labels as ignore_index",
        )


def labelled_rows(
    logits: Logits, target: Target, position_weight: PositionWeight, num_classes: int, ignore_index: int
) -> Rows:
    """Positions that have a label, one per row; the gradient of all others is 0.

    Raises:
        DataError: See ``check_labels``.
    """
    check_labels(target, num_classes, ignore_index)
    labels = target.flatten().long()
    rows = at_least_float32(logits).movedim(1, -1).flatten(0, -2)
    kept = (labels != ignore_index).nonzero().squeeze(1)
    weight = None if position_weight is None else position_weight.flatten().to(rows.dtype)[kept]
    return Rows(rows.index_select(0, kept), labels[kept], weight)
