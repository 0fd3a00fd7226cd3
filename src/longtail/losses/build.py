"""Classification losses by name, from plain settings."""

from longtail.components import Components, Spec
from longtail.losses.base import ClassificationLoss
from longtail.losses.label_space import LabelSpace

#: A loss by name, or as ``{"name": …, option: …}``.
LossSpec = Spec

LOSSES = Components(
    "loss",
    "longtail.losses",
    "longtail.losses.base:ClassificationLoss",
    given=("labels", "num_classes", "background", "ignore_index", "frequency"),
)


def build_loss(spec: LossSpec, labels: LabelSpace) -> ClassificationLoss:
    """A classification loss from settings alone.

    Args:
        spec: Name of a loss (``longtail info``) or the dotted path of your own ``ClassificationLoss``; with options as
            ``{"name": …, option: …}``, all plain JSON values. Its class is passed ``labels``, or those of
            ``num_classes``, ``background``, ``ignore_index`` and ``frequency`` that its arguments name.
        labels: Classes, background and ignored value of the labels, with the training counts.

    Raises:
        ConfigError: No such loss, or it has no such option or value.
    """
    facts = {name: getattr(labels, name) for name in LOSSES.given if name != "labels"}
    return LOSSES.build(spec, labels=labels, **facts)
