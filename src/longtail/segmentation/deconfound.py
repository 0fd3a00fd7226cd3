"""The de-confounded classifier instead of a segmentation model's linear one."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtail.classifiers.deconfound import DeconfoundClassifier
from longtail.shapes import ClassMaps


class DeconfoundPixels(nn.Module):
    """``DeconfoundClassifier`` at every pixel: at inference, remove the component along the mean training feature.

    Pixels have no background that stands for "nothing": the moving sum is of all of them, and no class is exempt.

    Args:
        channels: Width of the map; a multiple of ``heads``.
        num_classes: Number of classes C.
        options: ``heads``, ``temperature``, ``gamma``, ``alpha`` and ``momentum`` of ``DeconfoundClassifier``.

    Source: Tang 2020, Eqs. 7-9, without the background exemption.
    """

    def __init__(self, channels: int, num_classes: int, **options: Any) -> None:
        super().__init__()
        self.rows = DeconfoundClassifier(channels, num_classes, exempt=0, **options)

    def forward(self, input: Float[Tensor, "n channels h w"]) -> ClassMaps:
        """Logits of a map; in training mode its mean moves the sum on."""
        rows = input.movedim(1, -1).flatten(0, 2)
        if self.training:
            self.rows.observe(rows.detach(), torch.ones(len(rows), dtype=torch.bool, device=rows.device))
        return self.rows(rows).unflatten(0, (len(input), *input.shape[-2:])).movedim(-1, 1)

    def reset_parameters(self) -> None:
        """Reset weights and the moving sum."""
        self.rows.reset_parameters()
