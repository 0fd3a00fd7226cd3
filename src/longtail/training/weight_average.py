"""A running mean of the weights, validated and kept instead of the current ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """Exponential moving average of a method's weights, by torch; statistics of batch norm are the current ones.

    Args:
        method: Its weights now are the first mean.
        decay: Share of the old mean in the new one.
    """

    def __init__(self, method: nn.Module, decay: float) -> None:
        self.averaged = AveragedModel(method, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def update(self, method: nn.Module) -> None:
        """Add the current weights to the mean."""
        self.averaged.update_parameters(method)

    @torch.no_grad()
    def swap(self, method: nn.Module) -> None:
        """Exchange the weights of the method with the mean."""
        for own, mean in zip(method.parameters(), self.averaged.module.parameters(), strict=True):
            if own.requires_grad:
                current = own.detach().clone()
                own.copy_(mean)
                mean.copy_(current)

    @contextmanager
    def swapped(self, method: nn.Module) -> Iterator[None]:
        """The mean in the place of the current weights."""
        self.swap(method)
        try:
            yield
        finally:
            self.swap(method)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return self.averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of ``state_dict``."""
        self.averaged.load_state_dict(state)
