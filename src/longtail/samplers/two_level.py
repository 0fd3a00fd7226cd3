"""Two-level sampling: first a class, then an image that shows it, of which only that class counts."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from longtail.samplers.base import join
from longtail.samplers.class_aware import ClassAware


class TwoLevel(ClassAware):
    """Class-aware sampling that also gives the class for which an image was drawn.

    Indices are those of ``base.join``; ``base.split`` separates them.

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
        return join(images, classes, self.num_images)
