"""Take an expert that is sure of one of its own classes."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from longtail.ensembles.argmax import select_expert
from longtail.ensembles.base import Ensemble, expert_probabilities
from longtail.errors import ConfigError
from longtail.settings import one_of
from longtail.shapes import ExpertFeatures, ExpertLogits, Probabilities

Order = Literal["surest", "tail_first", "head_first"]


class SoftmaxThreshold(Ensemble):
    """At each position, take one expert that is sure enough of one of its own classes.

    Expert i claims a position if its most probable class j is its own and softmax(z_i)^j > ``threshold``. Where nobody
    claims, expert 1 speaks; so with a threshold of 1 the ensemble is expert 1.

    Args:
        own_classes: (K, C), the classes that each expert dominates.
        threshold: β of the paper.
        order: Which claim counts; the paper does not say. ``surest`` takes the largest softmax(z_i)^j (of equal ones the
            first expert's), ``tail_first`` the last expert's claim, ``head_first`` the first expert's.
        activation: How the loss reads logits; None for softmax.

    Source: MEDOE Table 6 (1), β = 0.3; SPEC §2.9.
    """

    def __init__(
        self,
        own_classes: Bool[Tensor, "experts classes"],
        threshold: float = 0.3,
        order: Order = "surest",
        *,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold is {threshold}", fix="give a probability; the paper's is 0.3")
        self.threshold = threshold
        self.activation = activation
        self.order: Order = one_of("order", order, get_args(Order))
        self.register_buffer("own_classes", own_classes, persistent=False)
        self.own_classes: Tensor

    def forward(self, logits: ExpertLogits, features: ExpertFeatures = None) -> Probabilities:
        probabilities = expert_probabilities(logits, self.activation)
        confidence, label = probabilities.max(dim=2)
        expert = torch.arange(len(logits), device=logits.device).view(-1, *[1] * (label.ndim - 1))
        claims = self.own_classes[expert, label] & (confidence > self.threshold)
        if self.order == "surest":
            # without a claim every value is 0, and argmax gives expert 1
            return select_expert(probabilities, confidence.where(claims, 0).argmax(dim=0))
        chosen = torch.zeros_like(label[0])
        experts = range(len(logits))
        # Written from the last asked to the first asked, so that the first claim is the one that stays.
        for index in experts if self.order == "tail_first" else reversed(experts):
            chosen = torch.where(claims[index], index, chosen)
        return select_expert(probabilities, chosen)
