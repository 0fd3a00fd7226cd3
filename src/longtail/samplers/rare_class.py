"""Rare-class sampling: images are drawn for a class, the rarer the more often."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from longtail.errors import ConfigError, DataError
from longtail.samplers.base import Sampler, join


def class_probabilities(share: Float[np.ndarray, " c"], temperature: float = 0.01) -> Float[np.ndarray, " c"]:
    """``softmax((1 - f) / T)`` over the classes that occur; 0 for the others.

    Args:
        share: f, share of each class in the labelled pixels.
        temperature: T > 0; the smaller, the more the rarest classes are favoured; a large one draws all alike.

    Source: DAFormer (Hoyer 2022), Eq. 10.
    """
    if not temperature > 0:
        raise ConfigError(
            f"temperature of rare-class sampling is {temperature}", fix="give a number > 0; usual is 0.01"
        )
    score = np.where(share > 0, (1 - share) / temperature, -np.inf)
    weights = np.exp(score - score.max())
    return weights / weights.sum()


class RareClass(Sampler):
    """First a class, the rarer the likelier, then an image that shows it, of which a crop should show it.

    Indices are those of ``base.join``: ``base.split`` gives the image and the class.

    Args:
        pixels: int64 (images, C), pixels of every class in every image.
        temperature: See ``class_probabilities``.
        smallest: An image counts for a class from this many pixels on, where any image has as many.
        length: Samples in a pass; None for the number of images.
        seed: Of ``epoch_indices``.

    Raises:
        ConfigError: A temperature or number of pixels that is not above 0.
        DataError: No image shows any class.

    Source: DAFormer (Hoyer 2022), §3.3 (3,000 pixels; crops that show the class: ``RandomScaledCrop``).
    """

    def __init__(
        self,
        pixels: Int[np.ndarray, "images c"],
        *,
        temperature: float = 0.01,
        smallest: int = 3000,
        length: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        if not smallest > 0:
            raise ConfigError(f"smallest of rare-class sampling is {smallest}", fix="give a number of pixels > 0")
        total = pixels.sum(axis=0)
        if not total.any():
            raise DataError("no image shows any class", fix="check the labels, or sample without classes")
        self.num_images = len(pixels)
        self.length = self.num_images if length is None else length
        self.probabilities = torch.from_numpy(class_probabilities(total / total.sum(), temperature))
        self.images_of: list[Tensor] = []
        for of_class in pixels.T:
            enough = of_class >= smallest
            self.images_of.append(torch.from_numpy(np.flatnonzero(enough if enough.any() else of_class > 0)))

    def draw(self, generator: torch.Generator) -> Int[Tensor, " n"]:
        """Indices of one pass, each a class and an image."""
        classes = torch.multinomial(self.probabilities, self.length, replacement=True, generator=generator)
        chance = torch.rand(self.length, generator=generator)
        sizes = torch.tensor([len(images) for images in self.images_of])[classes]
        places = (chance * sizes).long().clamp(max=sizes - 1)
        images = torch.stack([self.images_of[c][k] for c, k in zip(classes.tolist(), places.tolist(), strict=True)])
        return join(images, classes, self.num_images)


def shown_in(pixels: Int[np.ndarray, "images c"]) -> Sequence[np.ndarray]:
    """Classes that each image shows, for samplers of objects."""
    return [np.flatnonzero(row) for row in pixels]
