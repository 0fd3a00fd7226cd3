"""The settings of a segmentation method. This module does not import torch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from longtail.components import ComponentSettings
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency

if TYPE_CHECKING:
    from longtail.ensembles.build import Experts
    from longtail.segmentation.encoder_decoder import EncoderDecoder
    from longtail.segmentation.method import SegmentationMethod


@dataclass(frozen=True)
class SegmentationMethodConfig(ComponentSettings, ABC):
    """A dataclass whose fields are the method's options, and which builds it."""

    components: ClassVar[str] = "longtail.models.segmentation_methods:SEGMENTATION_METHODS"

    @abstractmethod
    def build(
        self, model: "EncoderDecoder", frequency: ClassFrequency, groups: CategoryGroups, ignore_index: int
    ) -> "SegmentationMethod":
        """The method around a model, which becomes part of it.

        Args:
            model: Any encoder-decoder.
            frequency: Counts of the training split.
            groups: Groups of the classes, most frequent first.
            ignore_index: Target value of pixels without a label.
        """

    def experts(self, groups: CategoryGroups, frequency: ClassFrequency, ignore_index: int) -> "Experts":
        """What an ensemble is told of the method's experts; see ``build``.

        Raises:
            ConfigError: The method has no experts that ensembles read.
        """
        raise ConfigError(f"{type(self).__name__} has no experts for other ensembles", fix="choose baseline or medoe")
