"""From box heads of other detectors to the stages of a cascade."""

import re
from typing import Any

import torch
from torch import Tensor

#: Deviations of the box changes of single-stage heads, in all programs; those of stage k of their cascades are ours.
_SINGLE = (0.1, 0.1, 0.2, 0.2)


def class_agnostic(value: Tensor, target: str, model: Any, *, several: bool) -> Tensor:
    """Box changes of all classes as one: their mean; as the stage's own deviations count them.

    Args:
        value: Weight (classes x 4, inputs) or bias (classes x 4,) of the regressor.
        target: Its name here.
        model: The cascade.
        several: Whether the detector is a cascade itself, whose stages have the same deviations.
    """
    if value.shape[0] % 4 == 0:
        value = value.unflatten(0, (-1, 4)).mean(dim=0)
    stage = re.search(r"stages\.(\d+)\.", target)
    if several or stage is None or value.shape[0] != 4:
        return value
    own = model.config.stages[int(stage[1])].box_stds
    ratio = torch.tensor(_SINGLE) / torch.tensor(own)
    return value * ratio.to(value).view(4, *[1] * (value.ndim - 1))
