"""The contract of a segmentation method with training, evaluation and prediction."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError
from longtail.losses.label_space import LabelSpace
from longtail.phases import PhasedMethod
from longtail.pixels import Upsampling, upsampled_labels
from longtail.segmentation.encoder_decoder import Features, pad_to_multiple
from longtail.shapes import ClassMaps, ExpertLogits, Images, LabelMaps, Losses


class ExpertMaps(NamedTuple):
    """Outputs of every expert at the image's size; a plain segmentor is one expert.

    Attributes:
        logits: (experts, n, logits, h, w); as many logits as classes, unless the method's loss needs others.
        features: (experts, n, channels, h', w') decoded features at the decoder's resolution, only where the method's
            ensemble needs them.
    """

    logits: Tensor
    features: Tensor | None = None


#: A way to read the experts' maps as one label map: (maps, target or None) -> (n, h, w) int64. Only the oracle reads
#: the target; it is None in prediction.
Readout = Callable[[ExpertMaps, Tensor | None], Tensor]


def read_probabilities(combine: Callable[[Tensor, Tensor | None], Tensor]) -> Readout:
    """Readout that takes the argmax of what ``combine`` makes of the logits, in bands of rows so that memory stays flat.

    Args:
        combine: (logits (experts, n, classes, rows, w), target rows or None) -> scores (n, classes, rows, w). It must
            treat every pixel by itself.
    """

    def read(maps: ExpertMaps, target: Tensor | None) -> Tensor:
        whole = Upsampling((maps.logits.shape[-2], maps.logits.shape[-1]))
        if target is None:
            return upsampled_labels(lambda logits: combine(logits, None), maps.logits, whole)
        return upsampled_labels(combine, maps.logits, whole, target)

    return read


def read_ensemble(ensemble: Ensemble) -> Readout:
    """Readout that takes the argmax of an ensemble's probabilities."""
    if ensemble.needs_features:
        return lambda maps, _: ensemble(*maps).argmax(dim=1)
    return read_probabilities(lambda logits, _: ensemble(logits))


class SegmentationMethod(PhasedMethod, ABC):
    """A segmentation model with the losses that train it and the readouts that use it.

    A method is trained in one or several phases, in order. ``start_phase`` freezes the parts that a phase does not train (and
    keeps it in evaluation mode through every later call of ``train``); ``losses`` is then what that phase minimises.

    Args:
        num_classes: Number of classes C.
        ignore_index: Target value of pixels without a label.

    Raises:
        ConfigError: ``ignore_index`` is the id of a class.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__()
        LabelSpace(num_classes, ignore_index=ignore_index)  # refuses to ignore a class
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    @property
    def num_logits(self) -> int:
        """Number of logits of every expert."""
        return self.num_classes

    def probabilities(self, logits: Float[Tensor, "n logits h w"]) -> ClassMaps:
        """Class probabilities of one expert's logits."""
        return logits.softmax(dim=1)

    def own_probabilities(self, logits: Float[Tensor, "experts n logits h w"]) -> ClassMaps:
        """Class probabilities of the method from the logits of all its experts, at any pixels of a map."""
        return self.probabilities(logits[0])

    @abstractmethod
    def losses(self, image: Images | Features, target: LabelMaps) -> Losses:
        """Named, already weighted losses of the current phase; minimise their sum.

        Args:
            image: Normalised images, or their features where the encoder is frozen.
            target: Class ids and ``ignore_index`` of every pixel.

        Raises:
            DataError: The target holds a label that is neither a class nor ``ignore_index``.
        """

    def encode(self, encoder: nn.Module, image: Images | Features, size_divisor: int = 1) -> Features:
        """Features of images, without a graph where the encoder is frozen; features themselves pass."""
        if not isinstance(image, Tensor):
            return image
        trained = image.requires_grad or any(parameter.requires_grad for parameter in encoder.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and trained):
            return encoder(pad_to_multiple(image, size_divisor))

    def features(self, image: Images | Features) -> Features:
        """Features of images, of a method with one encoder."""
        raise ConfigError(f"{type(self).__name__} has no encoder of its own", fix="choose baseline or medoe")

    def first_logits(self, features: Features) -> Tensor:
        """Logits of the first expert, of a method with one encoder."""
        raise ConfigError(f"{type(self).__name__} has no encoder of its own", fix="choose baseline or medoe")

    @abstractmethod
    def expert_maps(self, image: Images) -> ExpertMaps:
        """Full-size outputs of every expert for normalised images."""

    def low_maps(self, image: Images) -> tuple[ExpertLogits, Upsampling]:
        """Logits of every expert below the image's size where the method has them, and the way to that size."""
        return self.expert_maps(image).logits, Upsampling((image.shape[-2], image.shape[-1]))

    def read_with(self, ensemble: Ensemble) -> None:
        """Predict with another ensemble of the same experts from now on.

        Raises:
            ConfigError: The method has no experts that an ensemble reads.
        """
        raise ConfigError(f"{type(self).__name__} is not read with another ensemble", fix="choose baseline or medoe")

    @abstractmethod
    def readouts(self) -> dict[str, Readout]:
        """Name -> way to read the experts' maps; the first one is the method's own prediction."""

    @abstractmethod
    def forward(self, image: Images) -> ClassMaps:
        """Class probabilities at the image's size."""

    def scores(self, image: Images) -> ClassMaps:
        """Maps with the argmax of ``forward``, without what moves no label; exported graphs take their labels from it."""
        return self(image)

    @torch.no_grad()
    def labels(self, image: Images) -> LabelMaps:
        """Most probable class of every pixel: the argmax of ``forward``, which methods find without its maps if they can."""
        return self(image).argmax(dim=1)
