"""Segmentation methods: a file for each, which holds its settings and builds it around a model.

The settings do not import torch; ``build`` does.
"""

from typing import TYPE_CHECKING, Any

from longtail.components import Components, Spec, split
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.segmentation_methods.base import SegmentationMethodConfig

if TYPE_CHECKING:
    from longtail.segmentation.encoder_decoder import EncoderDecoder
    from longtail.segmentation.method import SegmentationMethod

SEGMENTATION_METHODS = Components(
    "segmentation method",
    "longtail.models.segmentation_methods",
    "longtail.models.segmentation_methods.base:SegmentationMethodConfig",
)


def build_method(
    method: Spec | SegmentationMethodConfig,
    model: "EncoderDecoder",
    *,
    frequency: ClassFrequency,
    groups: CategoryGroups,
    ignore_index: int = 255,
    **options: Any,
) -> "SegmentationMethod":
    """A segmentation method around a model.

    Args:
        method: ``MedoeConfig(alpha=0.3)``, or the method's name with ``options``: ``baseline``, ``medoe``, ``mcn``
            (shared decoder, K classifiers), ``model_ensemble`` (K networks), or the dotted path of your own.
        model: Any encoder-decoder; it becomes part of the method.
        frequency: Counts of the training split: the prior of Eq. 4.
        groups: One expert per group, most frequent first.
        ignore_index: Target value of pixels without a label.
        options: Options of the named method (``longtail info medoe``), all plain JSON values.

    Raises:
        ConfigError: Unknown name, option or value, or numbers of classes that differ.
    """
    if isinstance(method, SegmentationMethodConfig) and options:
        raise ConfigError(f"options {sorted(options)} with a {type(method).__name__}", fix="set them in it")
    if isinstance(method, SegmentationMethodConfig):
        config = method
    else:
        name, given = split(method)
        config = SegmentationMethodConfig.of({"name": name, **given, **options})
    for what, count in (("frequency", frequency.num_classes), ("groups", groups.num_classes)):
        if count != model.num_classes:
            raise ConfigError(
                f"the {what} know {count} classes, the model {model.num_classes}",
                fix="count, group and predict the same classes",
            )
    return config.build(model, frequency, groups, ignore_index)


__all__ = ["SEGMENTATION_METHODS", "SegmentationMethodConfig", "build_method"]
