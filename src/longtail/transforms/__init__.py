"""Joint transforms of images, masks and boxes."""

from longtail.transforms.detection import detection_eval, detection_train
from longtail.transforms.segmentation import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    normalisation,
    segmentation_eval,
    segmentation_train,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "detection_eval",
    "detection_train",
    "normalisation",
    "segmentation_eval",
    "segmentation_train",
]
