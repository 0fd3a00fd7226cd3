"""Sigmoid classifiers: a yes or no for each class."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def one_hot(target: Int[Tensor, " m"], num_logits: int, like: Tensor) -> Float[Tensor, "m logits"]:
    """1 in the label's column; rows labelled beyond the columns (background) are 0."""
    return F.one_hot(target.clamp(max=num_logits), num_logits + 1)[:, :-1].to(like.dtype)


def with_background(scores: Float[Tensor, "n classes *grid"]) -> Float[Tensor, "n more *grid"]:
    """Class scores, and for the background 1 minus the best score: it wins where no class reaches one half.

    The columns do not sum to 1.
    """
    return torch.cat([scores, 1 - scores.amax(dim=1, keepdim=True)], dim=1)


def prior_logit(probability: float) -> float:
    """Bias with which a sigmoid starts at a probability: thousands of classes then cost little at the start."""
    return math.log(probability / (1 - probability))
