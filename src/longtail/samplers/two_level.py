"""Two-level sampling: first a class, then an image that shows it, of which only that class counts."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from longtail.samplers.class_aware import ClassAware


class TwoLevel(ClassAware):
    """Class-aware sampling that says which class an image was drawn for.

    An index is ``(class + 1) * number of images + image``; ``split`` takes it apart.

    Args:
        image_labels: Classes of the objects of every image.
        length: Samples in a pass; None for the number of images.
        seed: Of ``epoch_indices``.

    Source: SimCal (Wang 2020), §4.1 (bi-level sampling).
    """

    def __init__(self, image_labels: Sequence[np.ndarray], *, length: int | None = None, seed: int = 0) -> None:
        super().__init__(image_labels, length=length, seed=seed)
        self.num_images = len(image_labels)

    def draw(self, generator: torch.Generator) -> Int[Tensor, " n"]:
        """Indices of one pass, each a class and an image."""
        classes, images = self.draw_pairs(generator)
        return (classes + 1) * self.num_images + images


def split(index: int, num_images: int) -> tuple[int, int | None]:
    """Image of an index of any sampler, and the class that it was drawn for; None of other samplers than ``TwoLevel``.

    Args:
        index: What a sampler gave.
        num_images: Number of images that it samples.
    """
    drawn_for, image = divmod(index, num_images)
    return image, drawn_for - 1 if drawn_for else None
