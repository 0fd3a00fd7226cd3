"""The plain cascade, and the one whose classifiers are re-trained."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from longtail.detection.build import build_detector
from longtail.detection.cascade_rcnn import CascadeDetector
from longtail.detection.config import ClassifierPhase
from longtail.ensembles.build import EnsembleSpec, check_reading
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.losses.build import LossSpec
from longtail.mec.model import named_ensembles, with_further
from longtail.models.classifier_phase import add_classifier_phase
from longtail.models.detection_methods.base import DetectionMethodConfig, stage_loss


@dataclass(frozen=True)
class BaselineConfig(DetectionMethodConfig):
    """The cascade as it is; its own prediction is the plain average of its dialect.

    Args:
        loss: classification loss of every stage, by name or as {name: focal, gamma: 1}; cross-entropy when not given
        further: other ensembles of the stages to evaluate, by name, such as {norcal: {name: norcal, gamma: 0.4}}
        classifier_phase: train second classifiers afterwards, such as {loss: balanced_group_softmax}

    Raises:
        ConfigError: A classifier phase with further ensembles.
    """

    loss: LossSpec | None = None
    further: Mapping[str, EnsembleSpec] | None = None
    classifier_phase: ClassifierPhase | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classifier_phase is not None and self.further:
            raise ConfigError(
                "classifier_phase with further ensembles", fix="second classifiers are read by the plain average alone"
            )

    def build(
        self, detector: Mapping[str, Any], groups: CategoryGroups, frequency: ClassFrequency | None
    ) -> CascadeDetector:
        """The cascade."""
        base = stage_loss(self.loss, frequency)
        losses = None if base is None else [base() for _ in detector["ious"]]
        plain = build_detector(**detector, losses=losses)
        if self.classifier_phase is not None:
            settings = {name: value for name, value in asdict(self.classifier_phase).items() if name != "sampling"}
            kind = detector.get("classifier", "linear")
            add_classifier_phase(plain, frequency, classifier=kind, base=base, **settings)
        if self.further:
            # the plain average stays the method's own prediction
            own: EnsembleSpec = {"name": "average", "average": plain.config.average}
            ensembles = named_ensembles(with_further("baseline", own, self.further), groups, losses, frequency)
            logits = torch.zeros(plain.num_stages, 1, plain.heads.current_losses.num_logits)
            check_reading(ensembles, logits, groups.num_classes + 1)
            plain.set_ensembles(ensembles)
        return plain
