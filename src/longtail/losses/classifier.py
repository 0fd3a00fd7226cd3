"""Initial bias of a classifier, from its loss."""

from typing import Any

import torch
from torch import nn


@torch.no_grad()
def start_bias(classifier: nn.Module, loss: Any) -> None:
    """Set the bias of a new classifier to the loss's ``initial_bias``, where both exist.

    Args:
        classifier: A layer that gives the loss's logits.
        loss: A ``ClassificationLoss``, or anything.
    """
    start, bias = getattr(loss, "initial_bias", None), getattr(classifier, "bias", None)
    if start is not None and bias is not None:
        bias.copy_(start)
