"""Detectors of stages: cascades on torchvision's parts, and query detectors of transformers."""

from importlib import import_module
from typing import Any

# Public names are imported on first use, so that ``longtail.detection.config`` stays free of torch.
_PUBLIC = {
    "AugmentedDetector": "augmented",
    "CascadeConfig": "config",
    "CascadeDetector": "cascade_rcnn",
    "DetectionMethod": "method",
    "Detections": "method",
    "PostprocessConfig": "config",
    "ProposalConfig": "config",
    "StageConfig": "config",
    "StageOutputs": "method",
    "as_cascade": "torchvision_models",
    "build_cascade": "build",
    "build_detector": "build",
    "encode_masks": "run_lengths",
    "score_offline": "postprocess",
    "stages": "config",
    "wrap_detector": "queries",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'longtail.detection' has no attribute {name!r}")
    return getattr(import_module(f"longtail.detection.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
