"""Re-training of the classifier of a finished model: what it begins with."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from longtail.losses.base import ClassificationLoss
from longtail.phases import PhasedMethod


def classifier_weights(method: PhasedMethod, weights: Mapping[str, Tensor], *, reset: bool) -> dict[str, Tensor]:
    """Weights of a finished model as the method begins with them.

    A classifier of other outputs takes the rows of the classes, which come first, where it has fewer, and keeps its own
    bias: focal's sigmoids know no background, and start from a bias of their own. One with more outputs (balanced group
    softmax) begins anew, and so does all that a loss has counted.

    Args:
        method: Its classifier alone is trained.
        weights: Those of the finished model.
        reset: Whether the classifier begins anew.
    """
    counted = tuple(f"{name}." for name, module in method.named_modules() if isinstance(module, ClassificationLoss))
    found = {key: value for key, value in weights.items() if not key.startswith(counted)}
    own: dict[str, Any] = method.state_dict()
    for name, source in method.classifiers().items():
        for key in (key for key in own if key.startswith(f"{name}.")):
            old, new = weights.get(key, weights.get(source + key.removeprefix(name))), own[key]
            found[key] = new if old is None or reset else _fitted(old, new)
    return found


def _fitted(old: Tensor, new: Tensor) -> Tensor:
    """The trained values as far as they fit."""
    if old.shape != new.shape and new.ndim > 1 and old.shape[1:] == new.shape[1:]:
        old = old[: len(new)]
    return old if old.shape == new.shape else new
