"""Class-aware sampling: every class is shown equally often."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from longtail.errors import ConfigError, DataError
from longtail.samplers.base import Sampler, shown_classes


class ClassAware(Sampler):
    """First a class, then an image that shows it.

    Classes come in equal numbers and in random order, and so do the images of a class: an image is not
    shown a second time for a class before all its others were, within one pass. Images without objects are not shown.

    Args:
        image_labels: Classes of the objects of every image.
        length: Samples in a pass; None for the number of images.
        seed: Of ``epoch_indices``.

    Raises:
        ConfigError: The length is below 1.
        DataError: No image shows any class.

    Source: Shen, Lin, Huang, "Relay Backpropagation" (2016), §4.
    """

    def __init__(self, image_labels: Sequence[np.ndarray], *, length: int | None = None, seed: int = 0) -> None:
        super().__init__(seed)
        shown = shown_classes(image_labels)
        self.length = len(shown) if length is None else length
        if self.length < 1:
            raise ConfigError(f"length is {length}", fix="show at least one image in a pass")
        image = np.repeat(np.arange(len(shown)), [len(classes) for classes in shown])
        label = np.concatenate([*shown, np.zeros(0, dtype=np.int64)])
        if not len(label):
            raise DataError("no image shows any class", fix="check the annotations, or sample without classes")
        order = np.argsort(label, kind="stable")
        self.classes, starts = np.unique(label[order], return_index=True)
        self.images_of = [torch.from_numpy(part) for part in np.split(image[order], starts[1:])]

    def draw(self, generator: torch.Generator) -> Int[Tensor, " n"]:
        """Indices of one pass."""
        return self.draw_pairs(generator)[1]

    def draw_pairs(self, generator: torch.Generator) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
        """Classes of one pass, and the image that each is shown by."""
        classes = _rounds(len(self.images_of), self.length, generator)
        indices = torch.empty(self.length, dtype=torch.long)
        for c, images in enumerate(self.images_of):
            turns = (classes == c).nonzero().squeeze(1)
            indices[turns] = images[_rounds(len(images), len(turns), generator)]
        return torch.from_numpy(self.classes)[classes], indices


def _rounds(size: int, length: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """Permutations of 0 … size-1 one after the other, ``length`` entries in all."""
    rounds = [torch.randperm(size, generator=generator) for _ in range(-(-length // size))]
    return torch.cat([*rounds, torch.zeros(0, dtype=torch.long)])[:length]
