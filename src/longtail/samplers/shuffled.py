"""Every image once."""

import torch
from jaxtyping import Int
from torch import Tensor

from longtail.samplers.base import Sampler


class Shuffled(Sampler):
    """Every image once, in random order.

    Args:
        num_images: Number of images.
        seed: Of ``epoch_indices``.
    """

    def __init__(self, num_images: int, *, seed: int = 0) -> None:
        super().__init__(seed)
        self.num_images = num_images

    def draw(self, generator: torch.Generator) -> Int[Tensor, " n"]:
        """A permutation of the images."""
        return torch.randperm(self.num_images, generator=generator)
