"""Ensembles by name, from plain settings: the same ones for MEDOE's decoders and the stages of a cascade."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from longtail.components import Components, Spec
from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency, Unit
from longtail.frequency.groups import CategoryGroups

#: An ensemble by name, or as ``{"name": …, option: …}``.
EnsembleSpec = Spec


@dataclass(frozen=True)
class Experts:
    """Facts about the experts that an ensemble combines; its arguments of these names are filled in.

    Args:
        num_experts: K.
        num_classes: Number of classes that it predicts; for boxes the background is the last of them.
        groups: Groups of the foreground classes.
        label_sets: (K, classes), whether a class is in an expert's label set.
        own_classes: (K, classes), the classes that each expert dominates.
        expert_groups: Group of every expert; None where expert k is that of group k.
        share: (classes,) share of each class in the training data.
        unit: Unit of the counts.
        frequency: Counts of the training split.
        activation: How the experts' loss reads logits as probabilities; None for softmax.
        absolute_logits: See ``ClassificationLoss``: alignment then keeps the level of the logits.
        recorded_logits: Folder of recorded stages -> logits of each image, (K, n, logits).
    """

    num_experts: int
    num_classes: int
    groups: CategoryGroups
    label_sets: Bool[Tensor, "experts classes"]
    own_classes: Bool[Tensor, "experts classes"]
    share: Float[Tensor, " classes"]
    expert_groups: tuple[int, ...] | None = None
    unit: Unit = "pixels"
    frequency: ClassFrequency | None = None
    activation: Callable[[Tensor], Tensor] | None = None
    absolute_logits: bool = False
    recorded_logits: Callable[[str], Iterable[Tensor]] | None = None


ENSEMBLES = Components(
    "ensemble",
    "longtail.ensembles",
    "longtail.ensembles.base:Ensemble",
    given=("experts", *(field.name for field in fields(Experts) if field.name != "unit")),
    functions=True,
)


def build_ensemble(spec: EnsembleSpec, experts: Experts) -> Ensemble:
    """Build an ensemble from settings alone.

    Args:
        spec: Name of an ensemble (``longtail info``) or the dotted path of your own ``Ensemble``; with options as
            ``{"name": …, option: …}``, all plain JSON values. It is passed ``experts``, or those of their facts that its
            arguments name.
        experts: The experts that it combines.

    Raises:
        ConfigError: No such ensemble, or it has no such option or value.
    """
    facts = {field.name: getattr(experts, field.name) for field in fields(Experts) if field.name != "unit"}
    return ENSEMBLES.build(spec, defaults={"keep_level": experts.absolute_logits}, experts=experts, **facts)


def check_reading(
    ensembles: Mapping[str, Ensemble], logits: Float[Tensor, "experts 1 logits *grid"], classes: int
) -> None:
    """Try the ensembles on some logits, so that one that cannot read them is found before training.

    Raises:
        ConfigError: An ensemble does not fit these logits; names it.
    """
    for name, ensemble in ensembles.items():
        if ensemble.needs_features:
            continue
        try:
            with torch.no_grad():
                found = ensemble(logits).shape[1]
        except ConfigError as error:
            raise ConfigError(f"ensemble {name!r}: {error.problem}", fix=error.fix) from error
        except (RuntimeError, IndexError) as error:
            raise ConfigError(f"ensemble {name!r} cannot read these experts: {error}", fix="choose another") from error
        if found != classes:
            raise ConfigError(
                f"ensemble {name!r} gives {found} probabilities for {classes} classes",
                fix="let it read the logits through `activation`, or choose another ensemble or loss",
            )
