"""Instances and images of every class of a detection data set."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from longtail.frequency.counts import ClassFrequency


@runtime_checkable
class LabelledImages(Protocol):
    """The part of a ``DetectionDataset`` that is counted."""

    classes: Any

    @property
    def image_labels(self) -> Sequence[np.ndarray]:
        """Class id of every object of every image."""

    @property
    def fingerprint(self) -> str:
        """Changes when the annotations change."""


def count_instances(dataset: LabelledImages) -> ClassFrequency:
    """Count the objects of every class, and the images that show it, without opening an image.

    Crowd regions count nowhere, as LVIS and COCO have it; images without objects count as images.

    Args:
        dataset: A ``DetectionDataset``.

    Source: MEC §3.2 (δ, instances); LVIS (images).
    """
    return counted_labels(dataset.image_labels, dataset.classes.names, dataset.fingerprint)


def counted_labels(image_labels: Sequence[np.ndarray], class_names: Sequence[str], fingerprint: str) -> ClassFrequency:
    """Count the class ids of the objects of every image; see ``count_instances``."""
    per_image, names = list(image_labels), tuple(class_names)
    labels = np.concatenate([*per_image, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    image = np.repeat(np.arange(len(per_image)), [len(labels) for labels in per_image])
    shown = np.unique(image * max(len(names), 1) + labels) % max(len(names), 1)
    return ClassFrequency(
        class_names=names,
        images=np.bincount(shown, minlength=len(names)),
        instances=np.bincount(labels, minlength=len(names)),
        num_images=len(per_image),
        fingerprint=fingerprint,
    )
