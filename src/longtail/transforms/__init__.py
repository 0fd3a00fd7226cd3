"""Joint transforms of images, masks and boxes."""

from longtail.transforms.segmentation import IMAGENET_MEAN, IMAGENET_STD, segmentation_eval, segmentation_train

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "segmentation_eval", "segmentation_train"]
