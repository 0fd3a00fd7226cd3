"""The settings of a segmentation method."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.segmentation.encoder_decoder import EncoderDecoder
from longtail.segmentation.method import SegmentationMethod
from longtail.settings import check_fields


@dataclass(frozen=True)
class SegmentationMethodConfig(ABC):
    """A dataclass whose fields are the method's options, and which builds it.

    Raises:
        ConfigError: A value that does not fit the field's annotation.
    """

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def build(
        self, model: EncoderDecoder, frequency: ClassFrequency, groups: CategoryGroups, ignore_index: int
    ) -> SegmentationMethod:
        """The method around a model, which becomes part of it.

        Args:
            model: Any encoder-decoder.
            frequency: Counts of the training split.
            groups: Groups of the classes, most frequent first.
            ignore_index: Target value of pixels without a label.
        """
