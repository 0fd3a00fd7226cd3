"""longtail: multi-expert models for long-tailed dense prediction (MEDOE and MEC) in PyTorch."""

from importlib import import_module
from typing import Any

from longtail.version import __version__

# Public names are imported on first use: `import longtail` and `longtail --help` stay fast.
_PUBLIC = {
    "ADE20K": "longtail.datasets.ade20k",
    "CategoryGroups": "longtail.frequency",
    "Cityscapes": "longtail.datasets.cityscapes",
    "ClassFrequency": "longtail.frequency",
    "Coco": "longtail.datasets.coco",
    "DetectionScorer": "longtail.metrics.detection_scorer",
    "Detector": "longtail.models.detector",
    "EncoderDecoder": "longtail.segmentation.encoder_decoder",
    "LongTailScenes": "longtail.datasets.longtail_scenes",
    "LongtailError": "longtail.errors",
    "Lvis": "longtail.datasets.lvis",
    "Medoe": "longtail.medoe.model",
    "Results": "longtail.metrics.results",
    "SegmentationFolder": "longtail.datasets.folder",
    "Segmenter": "longtail.models.segmenter",
    "as_cascade": "longtail.detection.torchvision_models",
    "build_detection_method": "longtail.models.detection_methods",
    "build_detector": "longtail.detection.build",
    "build_method": "longtail.models.segmentation_methods",
    "build_model": "longtail.segmentation.models",
    "count_instances": "longtail.frequency.count_instances",
    "count_pixels": "longtail.frequency.count_pixels",
    "make_multi_expert": "longtail.mec.model",
    "wrap": "longtail.segmentation.models",
    "wrap_detector": "longtail.detection.queries",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'longtail' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
