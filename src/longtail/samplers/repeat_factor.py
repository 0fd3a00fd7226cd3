"""Repeat-factor sampling: images with rare classes are shown more than once."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from longtail.errors import ConfigError
from longtail.samplers.base import Sampler, images_per_class, shown_classes


class RepeatFactor(Sampler):
    """Every image as often as its rarest class asks.

    With f the share of the images that show a class, the class repeats ``max(1, sqrt(threshold / f))`` times, an
    image as often as the class of it that repeats most, an image without objects once. The whole part of the factor
    is kept in every pass, the rest with its probability, drawn again each pass: detectron2's reading.

    Args:
        image_labels: Classes of the objects of every image (``DetectionDataset.image_labels``).
        threshold: t; classes in a larger share of the images are not repeated. LVIS: 0.001.
        seed: Of ``epoch_indices``.

    Attributes:
        factors: float64 (images,), how often each image is shown on average.

    Raises:
        ConfigError: The threshold is not above 0.
        DataError: There is no image.

    Source: Gupta et al. 2019 (LVIS), appendix B.2; PEERS part 2 §4.
    """

    def __init__(self, image_labels: Sequence[np.ndarray], threshold: float = 1e-3, *, seed: int = 0) -> None:
        super().__init__(seed)
        if not 0 < threshold <= 1:
            raise ConfigError(f"threshold is {threshold}", fix="give a share of the images in (0, 1]; LVIS: 0.001")
        shown = shown_classes(image_labels)
        of_class = class_factors(images_per_class(shown), len(shown), threshold)
        self.threshold = threshold
        self.factors = np.array([of_class[classes].max(initial=1.0) for classes in shown])

    def draw(self, generator: torch.Generator) -> Int[Tensor, " n"]:
        """Indices of one pass, shuffled; about ``factors.sum()`` of them."""
        return draw_repeated(torch.from_numpy(self.factors), generator)


def class_factors(images: np.ndarray, num_images: int, threshold: float) -> np.ndarray:
    """Repeat factor of every class, ``max(1, sqrt(threshold / f))``; 1 for classes that no image shows.

    Args:
        images: Number of images that show each class.
        num_images: Number of images, those without objects included.
        threshold: Share of the images above which a class is not repeated.
    """
    share = np.maximum(images, 1) / num_images
    return np.where(images > 0, np.maximum(1.0, np.sqrt(threshold / share)), 1.0)


def draw_repeated(factors: Float[Tensor, " images"], generator: torch.Generator) -> Int[Tensor, " n"]:
    """Each index ``floor(factor)`` times and once more with probability ``factor - floor(factor)``, shuffled."""
    whole = factors.floor()
    more = torch.rand(len(factors), generator=generator, dtype=factors.dtype) < factors - whole
    indices = torch.repeat_interleave(torch.arange(len(factors)), (whole + more).long())
    return indices[torch.randperm(len(indices), generator=generator)]
