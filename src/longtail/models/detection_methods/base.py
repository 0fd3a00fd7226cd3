"""The settings of a detection method. This module does not import torch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from longtail.components import ComponentSettings, Spec
from longtail.detection.config import is_cascade
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency

if TYPE_CHECKING:
    from longtail.detection.staged import StagedDetector
    from longtail.losses.base import ClassificationLoss

_IOUS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class DetectionMethodConfig(ComponentSettings, ABC):
    """A dataclass whose fields are the method's options, and which builds it."""

    components: ClassVar[str] = "longtail.models.detection_methods:DETECTION_METHODS"

    @abstractmethod
    def build(
        self, detector: Mapping[str, Any], groups: CategoryGroups, frequency: ClassFrequency | None
    ) -> "StagedDetector":
        """The method.

        Args:
            detector: Arguments of ``detection.build_staged_detector``.
            groups: Groups of the classes, rarest first.
            frequency: Counts of the training split.
        """


def detector_settings(detector: Mapping[str, Any], groups: CategoryGroups) -> dict[str, Any]:
    """Arguments of ``build_staged_detector``; a cascade has as many stages as groups unless ``ious`` are given.

    Raises:
        ConfigError: More groups than thresholds, or another number of classes than that of the groups.
    """
    cascade = is_cascade(detector.get("name", "cascade"))
    if cascade and groups.num_groups > len(_IOUS) and "ious" not in detector:
        raise ConfigError(
            f"{groups.num_groups} groups, and IoU thresholds for at most {len(_IOUS)} stages",
            fix="give ious, one threshold for each stage, or fewer groups (data.groups)",
        )
    ious = {"ious": _IOUS[: groups.num_groups]} if cascade else {}
    settings: dict[str, Any] = {**ious, "num_classes": groups.num_classes, **detector}
    if settings["num_classes"] != groups.num_classes:
        raise ConfigError(
            f"a detector of {settings['num_classes']} classes for groups of {groups.num_classes}",
            fix="leave num_classes to the groups",
        )
    return settings


def stage_loss(loss: Spec | None, frequency: ClassFrequency | None) -> "Callable[[], ClassificationLoss] | None":
    """What makes the loss of one stage, since a loss may hold state; None for cross-entropy.

    Raises:
        ConfigError: A loss without counts.
    """
    if loss is None:
        return None
    from longtail.losses.build import build_loss
    from longtail.losses.label_space import LabelSpace

    if frequency is None:
        raise ConfigError(
            f"the loss {loss!r} comes without a frequency", fix="pass frequency=, the counts of the training split"
        )
    return partial(build_loss, loss, LabelSpace.of_boxes(frequency))
