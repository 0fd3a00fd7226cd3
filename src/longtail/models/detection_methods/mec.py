"""MEC: the stages of a detector as experts of the groups."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from longtail.components import Spec
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.detection_methods.base import DetectionMethodConfig, stage_loss

if TYPE_CHECKING:
    from longtail.detection.staged import StagedDetector


@dataclass(frozen=True)
class MecConfig(DetectionMethodConfig):
    """The multi-expert detector: every stage (of a DETR: decoder layer) is the expert of a group, in training and in
    inference.

    Args:
        stage_to_group: group of every stage, 0 for the rarest, such as [0, 0, 1, 1, 2, 2]; null in it for a stage that is
            no expert; even parts when not given
        overall_weight: λ, the weight of the loss over all classes in an expert's group
        outside: weight of foreground classes outside the expert's group: plain (1) or lambda
        loss: classification loss of every stage of a cascade that is mixed with the group's own, by name or as {name:
            focal, gamma: 1}; cross-entropy when not given; a DETR keeps its own
        ensemble: the method's own prediction: dynamic (with group alignment), sparse, average …, or such as {name:
            dynamic, align: false, temperature: 2}
        comparisons: other ensembles of the stages to evaluate, by name, such as {norcal: {name: norcal, inner: dynamic}};
            those of the paper's Table 2c when not given

    Raises:
        ConfigError: λ outside [0, 1].

    Source: MEC §3.
    """

    stage_to_group: list[int | None] | None = None
    overall_weight: float = 0.7
    outside: Literal["plain", "lambda"] = "plain"
    loss: Spec | None = None
    ensemble: Spec = "dynamic"
    comparisons: Mapping[str, Spec] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.overall_weight <= 1:
            raise ConfigError(
                f"overall_weight (lambda) is {self.overall_weight}", fix="give a weight in [0, 1]; the paper's is 0.7"
            )

    def build(
        self, detector: Mapping[str, Any], groups: CategoryGroups, frequency: ClassFrequency | None
    ) -> "StagedDetector":
        """The multi-expert detector."""
        from longtail.detection.build import build_staged_detector
        from longtail.mec.losses import expert_losses
        from longtail.mec.model import make_multi_expert
        from longtail.mec.stages import map_stages

        base = stage_loss(self.loss, frequency)
        losses = None
        if "ious" in detector:  # a cascade is built with its losses: they say how many logits the classifiers have
            stages = map_stages(len(detector["ious"]), groups, self.stage_to_group)
            losses = expert_losses(groups, stage_to_group=stages, base=base)
        return make_multi_expert(
            build_staged_detector(**detector, losses=losses),
            groups,
            stage_to_group=self.stage_to_group,
            overall_weight=self.overall_weight,
            outside=self.outside,
            base=base,
            ensemble=self.ensemble,
            comparisons=self.comparisons,
            frequency=frequency,
        )
