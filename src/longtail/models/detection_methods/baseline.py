"""The plain cascade."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from longtail.detection.build import build_detector
from longtail.detection.cascade_rcnn import CascadeDetector
from longtail.ensembles.build import EnsembleSpec, check_reading
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.losses.build import LossSpec
from longtail.mec.model import named_ensembles, with_further
from longtail.models.detection_methods.base import DetectionMethodConfig, stage_loss


@dataclass(frozen=True)
class BaselineConfig(DetectionMethodConfig):
    """The cascade as it is; its own prediction is the plain average of its dialect.

    Args:
        loss: classification loss of every stage, by name or as {name: focal, gamma: 1}; cross-entropy when not given
        further: other ensembles of the stages to evaluate, by name, such as {norcal: {name: norcal, gamma: 0.4}}
    """

    loss: LossSpec | None = None
    further: Mapping[str, EnsembleSpec] | None = None

    def build(
        self, detector: Mapping[str, Any], groups: CategoryGroups, frequency: ClassFrequency | None
    ) -> CascadeDetector:
        """The cascade."""
        base = stage_loss(self.loss, frequency)
        losses = None if base is None else [base() for _ in detector["ious"]]
        plain = build_detector(**detector, losses=losses)
        if self.further:
            # the plain average stays the method's own prediction
            own: EnsembleSpec = {"name": "average", "average": plain.config.average}
            ensembles = named_ensembles(with_further("baseline", own, self.further), groups, losses, frequency)
            logits = torch.zeros(plain.num_stages, 1, plain.heads.class_losses.num_logits)
            check_reading(ensembles, logits, groups.num_classes + 1)
            plain.set_ensembles(ensembles)
        return plain
