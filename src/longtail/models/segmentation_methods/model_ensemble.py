"""ME: whole networks whose predictions are averaged."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from longtail.components import Spec
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.segmentation_methods.base import SegmentationMethodConfig
from longtail.models.segmentation_methods.baseline import BaselineConfig

if TYPE_CHECKING:
    from longtail.segmentation.encoder_decoder import EncoderDecoder
    from longtail.segmentation.model_ensemble import ModelEnsemble


@dataclass(frozen=True)
class ModelEnsembleConfig(SegmentationMethodConfig):
    """Several networks, averaged; decoders start from weights of their own, encoders from those given.

    Args:
        members: number of networks
        loss: loss of each, by name or as {name: focal, gamma: 1}; cross-entropy when not given

    Source: MEDOE Table 5.
    """

    members: int = 3
    loss: Spec | None = None

    def build(
        self, model: "EncoderDecoder", frequency: ClassFrequency, groups: CategoryGroups, ignore_index: int
    ) -> "ModelEnsemble":
        """The networks, as baselines."""
        from longtail.medoe.bank import copies
        from longtail.segmentation.model_ensemble import ModelEnsemble

        models = [model, *copies(model, self.members - 1, "copy")]
        for other in models[1:]:
            other.expert = copies(other.expert, 1, "reset")[0]
        member = BaselineConfig(loss=self.loss)
        return ModelEnsemble([member.build(m, frequency, groups, ignore_index) for m in models])
