"""Segmentation methods: a file for each, which holds its settings and builds it around a model."""

from collections.abc import Mapping
from typing import Any

from longtail.components import Components, Spec, split
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.segmentation_methods.base import SegmentationMethodConfig
from longtail.segmentation.encoder_decoder import EncoderDecoder
from longtail.segmentation.method import SegmentationMethod

SEGMENTATION_METHODS = Components(
    "segmentation method",
    "longtail.models.segmentation_methods",
    "longtail.models.segmentation_methods.base:SegmentationMethodConfig",
)


def build_method(
    method: Spec | SegmentationMethodConfig,
    model: EncoderDecoder,
    *,
    frequency: ClassFrequency,
    groups: CategoryGroups,
    ignore_index: int = 255,
    **options: Any,
) -> SegmentationMethod:
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
    if isinstance(method, (str, Mapping)):
        name, given = split(method)
        method = SEGMENTATION_METHODS.build({"name": name, **given, **options})
    elif options:
        raise ConfigError(f"options {sorted(options)} beside {type(method).__name__}", fix="set them in it")
    for what, count in (("frequency", frequency.num_classes), ("groups", groups.num_classes)):
        if count != model.num_classes:
            raise ConfigError(
                f"the {what} know {count} classes, the model {model.num_classes}",
                fix="count, group and predict the same classes",
            )
    assert isinstance(method, SegmentationMethodConfig)
    return method.build(model, frequency, groups, ignore_index)


__all__ = ["SEGMENTATION_METHODS", "SegmentationMethodConfig", "build_method"]
