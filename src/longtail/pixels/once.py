"""A refusal of second derivatives that says so."""

from typing import Any

import torch
from torch import Tensor

from longtail.errors import ConfigError


def as_last_derivative(gradient: Tensor) -> Tensor:
    """A gradient that a backward pass wrote in closed form, for it to return.

    Under ``create_graph`` it is connected to a refusal: to differentiate it again raises ``ConfigError``.
    """
    return _Last.apply(gradient.detach().requires_grad_()) if torch.is_grad_enabled() else gradient


class _Last(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> None:
        raise ConfigError(
            "a loss in blocks has no second derivative", fix="compute it on the whole map: pass blockwise=False"
        )
