"""Data sets: images with masks or objects."""

from importlib import import_module
from typing import Any

# Imported on first use: one data set's needs are not another's.
_PUBLIC = {
    "ADE20K": "longtail.datasets.ade20k",
    "BoxSamples": "longtail.datasets.box_samples",
    "Cityscapes": "longtail.datasets.cityscapes",
    "Coco": "longtail.datasets.coco",
    "LongTailScenes": "longtail.datasets.longtail_scenes",
    "Lvis": "longtail.datasets.lvis",
    "SegmentationFolder": "longtail.datasets.folder",
    "SegmentationSamples": "longtail.datasets.samples",
    "open_dataset": "longtail.datasets.open",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'longtail.datasets' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
