"""The plain cascade."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from longtail.components import Spec
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.detection_methods.base import DetectionMethodConfig, stage_loss

if TYPE_CHECKING:
    from longtail.detection.staged import StagedDetector


@dataclass(frozen=True)
class BaselineConfig(DetectionMethodConfig):
    """The detector as it is. A cascade's own prediction is the plain average of its dialect, a DETR's its last layer.

    Args:
        loss: classification loss of every stage of a cascade, by name or as {name: focal, gamma: 1}; cross-entropy when
            not given
        comparisons: other ensembles of the stages to evaluate, by name, such as {norcal: {name: norcal, gamma: 0.4}}
    """

    loss: Spec | None = None
    comparisons: Mapping[str, Spec] | None = None

    def build(
        self, detector: Mapping[str, Any], groups: CategoryGroups, frequency: ClassFrequency | None
    ) -> "StagedDetector":
        """The detector."""
        import torch

        from longtail.detection.build import build_staged_detector
        from longtail.ensembles.build import check_reading
        from longtail.mec.model import named_ensembles, with_comparisons
        from longtail.mec.stages import map_stages

        base = stage_loss(self.loss, frequency)
        losses = None if base is None else [base() for _ in detector.get("ious", (None,))]
        plain = build_staged_detector(**detector, losses=losses)
        if self.comparisons:
            reading = plain.logit_reading()
            even = plain.num_stages % groups.num_groups == 0
            stages = map_stages(plain.num_stages, groups) if even else None
            others = named_ensembles(
                with_comparisons("baseline", "average", self.comparisons), groups, reading, frequency, stages
            )
            # the detector's own reading stays the method's prediction
            ensembles = {**others, "baseline": plain.plain_ensemble()}
            logits = torch.zeros(plain.num_stages, 1, getattr(reading, "num_logits", groups.num_classes + 1))
            check_reading(ensembles, logits, groups.num_classes + 1)
            plain.set_ensembles(ensembles)
        return plain
