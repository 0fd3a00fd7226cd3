"""The contract of a sampler: the order in which one pass shows the images."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from longtail.errors import DataError


class Sampler(ABC):
    """One pass over the data as an index for each sample; passes may differ in length.

    A pass is a function of the generator alone, or of (seed, pass): a killed run resumes by drawing it again, and
    every rank of a distributed run draws the same and takes its share. The training engine calls the sampler with its
    own generator; ``epoch_indices`` is for your own loops.

    Args:
        seed: Of ``epoch_indices``.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Int[Tensor, " n"]:
        """Indices of one pass, shuffled."""

    def __call__(self, generator: torch.Generator) -> Sequence[int]:
        """Indices of one pass, drawn from ``generator``."""
        return self.draw(generator).tolist()

    def epoch_indices(self, epoch: int) -> Int[Tensor, " n"]:
        """Indices of pass ``epoch``, the same on every machine and after every resume."""
        digest = hashlib.sha256(f"{self.seed}/{epoch}".encode()).digest()
        return self.draw(torch.Generator().manual_seed(int.from_bytes(digest[:7], "big")))


def shown_classes(image_labels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Classes that each image shows, each once, ascending.

    Raises:
        DataError: There is no image.
    """
    if not len(image_labels):
        raise DataError("there is no image to sample", fix="check the folder, the split and the annotations")
    return [np.unique(labels) for labels in image_labels]


def images_per_class(shown: Sequence[np.ndarray], num_classes: int | None = None) -> np.ndarray:
    """Number of images that show each class, int64 (C,)."""
    everything = np.concatenate([*shown, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    return np.bincount(everything, minlength=num_classes or 0)


def join(images: Int[Tensor, " n"], classes: Int[Tensor, " n"], num_images: int) -> Int[Tensor, " n"]:
    """Indices that carry the class for which an image was drawn: ``(class + 1) * num_images + image``.

    Args:
        images: Images drawn.
        classes: Class that each was drawn for.
        num_images: Number of images that are sampled.
    """
    return (classes + 1) * num_images + images


def split(index: int, num_images: int) -> tuple[int, int | None]:
    """Image of an index of any sampler, and the class that it was drawn for, where the sampler gives one.

    Args:
        index: An index from a sampler.
        num_images: Number of images that it samples.
    """
    drawn_for, image = divmod(index, num_images)
    return image, drawn_for - 1 if drawn_for else None
