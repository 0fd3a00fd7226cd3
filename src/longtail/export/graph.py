"""What the graph of a task offers to the writers of files and to their check."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from longtail.export.pixels import Normalise


class Graph(nn.Module, ABC):
    """A trained model from its input to what is wanted of it: one input, ``image``, and named outputs.

    Args:
        input: ``input`` of the trained model.
        bands: Bands of an image.
        normalise: Whether pixels come in, instead of normalised images.
    """

    #: Whether several images can go through at once.
    batches: ClassVar[bool]
    #: Names of the outputs, in order.
    outputs: tuple[str, ...]

    def __init__(self, input: Mapping[str, Any], bands: int, *, normalise: bool) -> None:
        super().__init__()
        self.bands = bands
        self.normalise = Normalise(input) if normalise else None

    @abstractmethod
    def forward(self, image: Tensor) -> Any:
        """The outputs: one tensor, or a tuple of them."""

    @abstractmethod
    def difference(self, image: Tensor, found: Sequence[Tensor]) -> float:
        """Largest difference of the outputs of a file from what the trained model itself gives.

        Args:
            image: Input.
            found: Outputs of the file.
        """

    def example(self, shape: tuple[int, int, int], seed: int) -> Tensor:
        """A random input.

        Args:
            shape: Number of images, height and width.
            seed: Of the random values.
        """
        generator = torch.Generator().manual_seed(seed)
        full = (shape[0], self.bands, *shape[1:])
        return (
            torch.randn(full, generator=generator)
            if self.normalise is None
            else self.normalise.example(full, generator)
        )

    def normalised(self, image: Tensor) -> Tensor:
        """What the network reads."""
        return image if self.normalise is None else self.normalise(image)
