"""MEDOE: multi-expert decoder and output ensemble for segmentation."""

from importlib import import_module
from typing import Any

# Public names are imported on first use, so that ``longtail.medoe.options`` stays free of torch.
_PUBLIC = {
    "ExpertLoss": "losses",
    "ExpertLossOptions": "options",
    "LabelSets": "experts",
    "Medoe": "model",
    "mask_labels": "experts",
    "oracle_probabilities": "oracle",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'longtail.medoe' has no attribute {name!r}")
    return getattr(import_module(f"longtail.medoe.{_PUBLIC[name]}"), name)
