"""MCN: MEDOE's experts with one decoder, K classifiers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from longtail.medoe.options import Gradient
from longtail.models.segmentation_methods.medoe import MedoeConfig

if TYPE_CHECKING:
    from longtail.medoe.bank import ExpertBank
    from longtail.segmentation.encoder_decoder import Expert


@dataclass(frozen=True)
class McnConfig(MedoeConfig):
    """Multi-classifier network: MEDOE with one shared decoder and K classifiers.

    Args:
        gradient: which classifiers train the shared decoder and encoder: first or all

    Source: MEDOE Table 5.
    """

    gradient: Gradient = "first"

    readout: ClassVar[str] = "mcn"

    def _bank(self, expert: "Expert", num_experts: int) -> "ExpertBank":
        from longtail.medoe.bank import SharedDecoderHeads

        return SharedDecoderHeads(expert, num_experts, self.initialise, self.gradient)
