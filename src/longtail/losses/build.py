"""Classification losses by name, from plain settings."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency
from longtail.losses.base import ClassificationLoss
from longtail.options import nearest, options_of, take

#: A loss by name, or as ``{"name": …, option: …}``.
LossSpec = str | Mapping[str, Any]

#: Name -> where its class is: ``module:class``, imported when asked for.
LOSSES: dict[str, str] = {
    name: f"longtail.losses.{where}"
    for name, where in {
        "cross_entropy": "cross_entropy:CrossEntropy",
        "focal": "focal:FocalLoss",
        "class_balanced": "class_balanced:ClassBalancedLoss",
        "ldam": "ldam:LDAMLoss",
        "logit_adjustment": "logit_adjustment:LogitAdjustedLoss",
        "balanced_softmax": "balanced_softmax:BalancedSoftmax",
        "blv": "blv:BLVLoss",
        "seesaw": "seesaw:SeesawLoss",
        "equalization": "equalization:EqualizationLoss",
        "equalization_v2": "equalization_v2:EqualizationLossV2",
        "balanced_group_softmax": "balanced_group_softmax:BalancedGroupSoftmax",
        "federated": "federated:FederatedLoss",
        "under_sampling": "under_sampling:UnderSamplingLoss",
    }.items()
}

#: What the data say; everything else is an option.
_GIVEN = ("self", "cls", "frequency", "num_classes", "background", "ignore_index")


def build_loss(
    spec: LossSpec, frequency: ClassFrequency, *, background: bool = False, ignore_index: int = 255
) -> ClassificationLoss:
    """A classification loss from settings alone.

    Args:
        spec: One of ``LOSSES``, or the dotted path of your own ``ClassificationLoss``; with options as ``{"name": …,
            option: …}``, all plain JSON values.
        frequency: Counts of the training split: C foreground classes.
        background: Targets may also be C, the background: boxes.
        ignore_index: Target value of positions without a label.

    Raises:
        ConfigError: No such loss, or it has no such option or value.
    """
    options: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = str(options.pop("name", ""))
    kind = _find(name)
    options = take(f"loss {name!r}", options, _parameters(kind))
    return kind.from_frequency(frequency, background=background, ignore_index=ignore_index, **options)


def loss_options(name: str) -> dict[str, Any]:
    """The options of a loss and their defaults; without one where it must be given."""
    return {p.name: p.default for p in _parameters(_find(name)).values()}


def _find(name: str) -> type[ClassificationLoss]:
    where = LOSSES.get(name, name if ":" in name else ":".join(name.rsplit(".", 1)))
    module, _, kind = where.partition(":")
    if not kind:
        raise ConfigError(
            f"there is no loss {name!r}",
            fix=f"{nearest(name, LOSSES)}choose one of {', '.join(LOSSES)}, or give the dotted path of your own class",
        )
    try:
        found = getattr(import_module(module), kind)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"no loss at {name!r}: {error}", fix="give a dotted path that Python can import from here"
        ) from error
    if not (inspect.isclass(found) and issubclass(found, ClassificationLoss)):
        raise ConfigError(f"{name} is no ClassificationLoss", fix="derive it from longtail.losses.base")
    return found


def _parameters(kind: type[ClassificationLoss]) -> dict[str, inspect.Parameter]:
    """Options of a class: those that its ``from_frequency`` names and, where that hands on, its keyword-only ones.

    Those that a ``from_frequency`` of its own must fill in (no default) are none.
    """
    found = options_of(kind.from_frequency, _GIVEN)
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(kind.from_frequency).parameters.values()):
        filled = "from_frequency" in vars(kind)
        own = [p for p in options_of(kind, _GIVEN).values() if p.kind is p.KEYWORD_ONLY]
        found |= {p.name: p for p in own if not (filled and p.default is p.empty)}
    return found
