"""The classification calibration head: second classifiers for the rare classes of a finished cascade."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from longtail.components import Spec
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.detection_methods.base import DetectionMethodConfig, stage_loss

if TYPE_CHECKING:
    from longtail.detection.cascade_rcnn import CascadeDetector


@dataclass(frozen=True)
class CalibrationHeadConfig(DetectionMethodConfig):
    """A finished baseline whose stages have a second classifier for rare classes, which alone is trained.

    The plain average of the stages reads both classifiers.

    Args:
        loss: loss that the finished baseline was trained with; cross-entropy when not given
        second_loss: loss of the second classifiers; loss when not given
        threshold: number of instances up to which a class is the second classifiers'

    Source: SimCal (Wang 2020), §4; MEC's comparison 9; PEERS part 2 §4.
    """

    loss: Spec | None = None
    second_loss: Spec | None = None
    threshold: int = 300

    def build(
        self, detector: Mapping[str, Any], groups: CategoryGroups, frequency: ClassFrequency | None
    ) -> "CascadeDetector":
        """The cascade with calibration heads.

        Raises:
            ConfigError: There are no counts, or a classifier that gathers statistics of its own.
        """
        import torch

        from longtail.detection.build import build_detector
        from longtail.detection.calibration_head import CalibrationHead
        from longtail.detection.stage import CLASSIFIERS, StageLosses
        from longtail.detection.two_heads import TwoHeadsLoss
        from longtail.losses.base import start_bias
        from longtail.losses.cross_entropy import CrossEntropy
        from longtail.losses.label_space import LabelSpace

        name, kind = detector.get("name", "cascade"), detector.get("classifier", "linear")
        if name not in ("cascade", "htc"):
            raise ConfigError(f"calibration_head with {name}", fix="choose cascade or htc as model.name")
        if frequency is None:
            raise ConfigError(
                "calibration_head without a frequency", fix="pass frequency=, the counts of the training split"
            )
        if kind not in ("linear", "cosine"):
            raise ConfigError(f"calibration_head with a {kind!r} classifier", fix="choose linear or cosine")
        first = stage_loss(self.loss, frequency) or partial(CrossEntropy, LabelSpace.of_boxes(frequency))
        second = stage_loss(self.second_loss, frequency) or first
        cascade = build_detector(**detector, losses=[first() for _ in detector["ious"]])
        counts = torch.from_numpy(frequency.counts("instances").copy())
        heads, losses = [], []
        for stage in cascade.heads.box_stages:
            reads, trains = first(), second()
            classifier = CLASSIFIERS[kind](stage.regressor.in_features, trains.num_logits)
            start_bias(classifier, trains)
            heads.append(CalibrationHead(stage.shared, classifier))
            losses.append(TwoHeadsLoss(reads, trains, counts, self.threshold))
        cascade.add_calibration_heads(heads, StageLosses(losses, cascade.num_stages, cascade.num_classes))
        return cascade
