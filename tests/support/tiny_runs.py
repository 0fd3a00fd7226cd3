"""Segmentation runs that take seconds: a few small scenes, a narrow model, a handful of iterations."""

from typing import Any

from longtail.settings import from_dict
from longtail.training.segmentation_config import SegmentationConfig

SETTINGS: dict[str, Any] = {
    "data": {"dataset": "longtail-scenes", "size": [32, 32], "num_images": 12, "limit": 6},
    "augmentation": {"crop": [32, 32], "cat_max_ratio": 1.0, "photometric": False},
    "model": {
        "name": "deeplabv3plus",
        "encoder": "torchvision/mobilenet_v2",
        "output_stride": 16,
        "channels": 8,
        "low_level_channels": 8,
        "auxiliary": False,
    },
    "method": {"name": "medoe"},
    "iterations": {"experts": 3, "ensemble": 2},
    "loading": {"batch_size": 2, "workers": 0},
    "hardware": {"accelerator": "cpu", "devices": 1},
    "logging": {"logger": "none", "log_interval": 2, "val_interval": 100},
    "evaluation": {"pictures": 2},
}


def tiny_settings(**changes: Any) -> dict[str, Any]:
    return {**SETTINGS, **changes}


def tiny_config(**changes: Any) -> SegmentationConfig:
    return from_dict(SegmentationConfig, tiny_settings(**changes))
