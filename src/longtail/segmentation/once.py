"""First derivatives in closed form, and a refusal of the second that says so."""

from typing import Any

import torch
from torch import Tensor

from longtail.errors import ConfigError


def differentiable_once(values: Tensor) -> Tensor:
    """The values themselves; a second derivative through them is refused.

    Raises:
        ConfigError: When the gradient is differentiated.
    """
    return _Once.apply(values)


def as_last_derivative(gradient: Tensor) -> Tensor:
    """A gradient that a backward pass computed, for it to return: under ``create_graph`` it refuses to be differentiated."""
    return _Last.apply(gradient.detach().requires_grad_()) if torch.is_grad_enabled() else gradient


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return as_last_derivative(gradient)


class _Last(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> None:
        raise ConfigError(
            "a loss in blocks has no second derivative", fix="compute it on the whole map: pass blockwise=False"
        )
