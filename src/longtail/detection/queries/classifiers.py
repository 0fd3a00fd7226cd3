"""A classifier for every stage, in the place of one that all layers share."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class StageClassifiers(nn.Module):
    """As many classifiers as stages; called as the shared one was.

    Args:
        classifier: The shared classifier; every stage has a copy.
        num_stages: Number of stages.
        calls: How often the library calls it in one pass, a layer at a time; 0 where it is called with the states of
            all layers, and otherwise with the last layer's.
    """

    def __init__(self, classifier: nn.Module, num_stages: int, calls: int = 0) -> None:
        super().__init__()
        self.stages = nn.ModuleList(self.copy(classifier) for _ in range(num_stages))
        self.calls = calls
        self.done = 0

    def forward(self, states: Tensor) -> Tensor:
        """Logits of one layer's states, or of all layers' (stages, n, queries, channels)."""
        if states.ndim == 4:
            layers = list(self.stages)[-len(states) :]
            layers = [layers[0]] * (len(states) - len(layers)) + layers  # an output before the first layer
            return torch.stack([layer(own) for layer, own in zip(layers, states, strict=True)])
        stage = len(self.stages) - 1
        if self.calls:
            stage = max(0, stage - (self.calls - 1) + self.done)
            self.done = (self.done + 1) % self.calls
        return self.stages[stage](states)

    def start(self, *_: Any) -> None:
        """Begin with the first layer again."""
        self.done = 0

    @staticmethod
    def copy(classifier: nn.Module) -> nn.Module:
        """A copy with parameters of its own."""
        return copy.deepcopy(classifier)

    @classmethod
    def replace(cls, model: Any, name: str, num_stages: int, calls: int = 0) -> None:
        """Put separate classifiers in the place of a model's shared one; nothing where that was done.

        Args:
            model: The model.
            name: Name of its shared classifier.
            num_stages: Number of stages.
            calls: See the class.
        """
        if isinstance(getattr(model, name), cls):
            return
        separate = cls(getattr(model, name), num_stages, calls)
        setattr(model, name, separate)
        model.register_forward_pre_hook(separate.start)
