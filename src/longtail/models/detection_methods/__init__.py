"""Detection methods: a file for each, which holds its settings and builds it from a detector's.

The settings do not import torch; ``build`` does.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from longtail.components import Components, Spec, split
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.detection_methods.base import DetectionMethodConfig, detector_settings

if TYPE_CHECKING:
    from longtail.detection.staged import StagedDetector

DETECTION_METHODS = Components(
    "detection method",
    "longtail.models.detection_methods",
    "longtail.models.detection_methods.base:DetectionMethodConfig",
)


def build_detection_method(
    method: Spec | DetectionMethodConfig,
    *,
    groups: CategoryGroups,
    detector: Mapping[str, Any] | None = None,
    frequency: ClassFrequency | None = None,
    **options: Any,
) -> "StagedDetector":
    """A detection method: the plain detector, or the multi-expert one.

    Args:
        method: ``MecConfig(overall_weight=0.5)``, or the method's name with ``options``: ``baseline``,
            ``calibration_head``, ``mec``, or the dotted path of your own.
        groups: Groups of the classes by training instances, rarest first; one per stage of a cascade for ``mec``.
        detector: Arguments of ``detection.build_staged_detector``. Without ``ious`` a cascade has as many stages as
            groups, with thresholds 0.5, 0.6, ….
        frequency: Counts of the training split, for losses and for ensembles that calibrate.
        options: Options of the named method (``longtail info mec``), all plain JSON values.

    Raises:
        ConfigError: An unknown name or setting, or numbers of stages and groups that do not fit.
    """
    if isinstance(method, DetectionMethodConfig) and options:
        raise ConfigError(f"options {sorted(options)} with a {type(method).__name__}", fix="set them in it")
    if isinstance(method, DetectionMethodConfig):
        config = method
    else:
        name, given = split(method)
        config = DetectionMethodConfig.of({"name": name, **given, **options})
    built = config.build(detector_settings(detector or {}, groups), groups, frequency)
    built.count_positives(groups)
    return built


__all__ = ["DETECTION_METHODS", "DetectionMethodConfig", "build_detection_method"]
