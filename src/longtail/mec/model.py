"""Make a multi-stage detector multi-expert."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch

from longtail.detection.matches import Reading
from longtail.detection.recording import read_recording
from longtail.ensembles.average import Averaged
from longtail.ensembles.base import Ensemble, TrainableEnsemble
from longtail.ensembles.build import EnsembleSpec, Experts, build_ensemble, check_reading
from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency
from longtail.frequency.edges import advice_on_edges, without_objects
from longtail.frequency.groups import CategoryGroups
from longtail.losses.base import ClassificationLoss
from longtail.losses.wrapped import WrappedLoss
from longtail.mec.losses import Outside, check_width, expert_losses
from longtail.mec.matched import MatchedExpertLoss
from longtail.mec.stages import StageMap, map_stages
from longtail.shapes import ExpertFeatures, ExpertLogits, Probabilities


@runtime_checkable
class MultiStageDetector(Protocol):
    """The interface that ``make_multi_expert`` needs: N stages (of a cascade, or decoder layers), each with a classifier.

    ``CascadeDetector`` has it. Your own detector needs these four members; it calls the losses and turns the ensemble's
    probabilities into boxes itself. The losses say how many logits a stage has: C classes and the background, or
    ``base``'s number (C sigmoids of a focal loss).

    A detector that keeps its own classification loss and matching has a fifth member, ``reading`` (``Reading``: how its
    logits become probabilities). Its losses are then ``MatchedExpertLoss``, whose value it adds to its own loss.
    """

    num_classes: int

    @property
    def num_stages(self) -> int:
        """Number of stages, N."""

    def set_class_losses(self, losses: Sequence[Any]) -> None:
        """Train stage k with ``losses[k]``: ``(logits (R, C+1), labels (R,)) -> scalar``, background is label C; with a
        ``reading``: ``(Matches) -> scalar or None``, which is added to the detector's own loss."""

    def set_ensembles(self, ensembles: Mapping[str, Ensemble]) -> None:
        """Read the stages' logits (N, R, C+1) through ``ensembles``, the first for the detector's own prediction."""


Detector = TypeVar("Detector", bound=MultiStageDetector)


def make_multi_expert(
    detector: Detector,
    groups: CategoryGroups,
    *,
    stage_to_group: Sequence[int | None] | None = None,
    overall_weight: float = 0.7,
    outside: Outside = "plain",
    base: Callable[[], ClassificationLoss] | None = None,
    ensemble: EnsembleSpec = "dynamic",
    comparisons: Mapping[str, EnsembleSpec] | None = None,
    frequency: ClassFrequency | None = None,
) -> Detector:
    """Make every stage of a detector the expert of a group, in training and in inference.

    The network is unchanged: no parameter is added, and a checkpoint of the plain detector fits.

    Args:
        detector: Any multi-stage detector; it is changed in place and returned.
        groups: Groups of the foreground classes, rarest first.
        stage_to_group: Group of every stage, see ``map_stages``; None for even parts: stage k is the expert of group
            k, or of six stages two belong to each of three groups.
        overall_weight: λ of Eq. 2; 1 is the plain loss.
        outside: See ``MultiExpertLoss``.
        base: Makes the classification loss of one stage that the expert loss is mixed with; None for cross-entropy.
        ensemble: The detector's own prediction, ``mec``: ``dynamic`` (with group alignment), ``sparse``, ``average``,
            or a dict of that name and options of its class.
        comparisons: Other ensembles to read; None for those of the paper's Table 2c.
        frequency: Counts of the training split, for ensembles that calibrate.

    Raises:
        ConfigError: The numbers of stages or classes do not fit, or the ensemble is unknown.

    Source: MEC §3.
    """
    _check_fit(detector, groups, frequency)
    stages = map_stages(detector.num_stages, groups, stage_to_group)
    reading = getattr(detector, "reading", None)
    losses: list[Any]
    if reading is None:
        losses = expert_losses(groups, stage_to_group=stages, overall_weight=overall_weight, outside=outside, base=base)
    elif base is not None:
        raise ConfigError(
            f"{type(detector).__name__} keeps its own classification loss",
            fix="leave the loss out; the experts' is mixed with the detector's own",
        )
    else:
        losses = [
            MatchedExpertLoss(
                () if group is None else groups.members[group],
                groups.num_classes,
                overall_weight=overall_weight,
                outside=outside,
            )
            for group in stages
        ]
    detector.set_class_losses(losses)
    if comparisons is None:
        comparisons = table_2c(getattr(getattr(detector, "config", None), "average", "probabilities"))
    read_by = losses[0] if reading is None else reading
    specs = with_comparisons("mec", ensemble, comparisons)
    ensembles = named_ensembles(specs, groups, read_by, frequency, stages)
    check_reading(ensembles, torch.zeros(len(stages), 1, read_by.num_logits), groups.num_classes + 1)
    for found in ensembles.values():
        found.register_forward_pre_hook(partial(_check_width, read_by.num_logits))
    detector.set_ensembles(ensembles)
    return detector


class ExpertStages(Ensemble):
    """Another ensemble, of those stages alone that are experts.

    Args:
        inner: The ensemble.
        stages: Indices of the stages.
    """

    def __init__(self, inner: Ensemble, stages: Sequence[int]) -> None:
        super().__init__()
        self.inner = inner
        self.stages = list(stages)

    def forward(self, logits: ExpertLogits, features: ExpertFeatures = None) -> Probabilities:
        """Class probabilities; ``features`` are not read."""
        return self.inner(logits[self.stages])


def _check_width(num_logits: int, ensemble: Ensemble, arguments: tuple[Any, ...]) -> None:
    """Refuse stages that have not as many logits as their loss takes, before an ensemble reads them."""
    check_width(arguments[0].shape[2], num_logits)


def named_ensembles(
    specs: Mapping[str, EnsembleSpec],
    groups: CategoryGroups,
    loss: Any = None,
    frequency: ClassFrequency | None = None,
    stages: StageMap | None = None,
) -> dict[str, Ensemble]:
    """Ensembles by the names under which they are read.

    Args:
        specs: Name -> ensemble.
        groups: Groups of the foreground classes.
        loss: Says how logits are read: the loss of a stage (expert or plain), or a ``Reading``; None for softmax.
        frequency: Counts of the training split, for ensembles that calibrate.
        stages: Group of every stage; None where stage k is the expert of group k.

    Raises:
        ConfigError: An ensemble that is trained: the stages have no phase for it.
    """
    experts = stage_experts(groups, loss, frequency, stages)
    found = {name: build_ensemble(spec, experts) for name, spec in specs.items()}
    for name, ensemble in found.items():
        if isinstance(ensemble, TrainableEnsemble):
            raise ConfigError(
                f"ensemble {name!r} is trained in a separate phase, which stages do not have",
                fix="choose one without parameters, such as dynamic",
            )
    if stages is None or None not in stages:
        return found
    chosen = [stage for stage, group in enumerate(stages) if group is not None]
    return {name: ExpertStages(ensemble, chosen) for name, ensemble in found.items()}


def stage_experts(
    groups: CategoryGroups, loss: Any = None, frequency: ClassFrequency | None = None, stages: StageMap | None = None
) -> Experts:
    """The stages of a detector as an ensemble sees them: each dominates its group, and all know the background.

    Args:
        groups: Groups of the foreground classes.
        loss: Says how logits are read; None for softmax.
        frequency: Counts of the training split.
        stages: Group of every stage, None for those that are no experts; None where stage k is that of group k.
    """
    classes = groups.num_classes + 1
    of_stages: StageMap = tuple(range(groups.num_groups)) if stages is None else stages
    chosen = [stage for stage, group in enumerate(of_stages) if group is not None]
    expert_groups = tuple(group for group in of_stages if group is not None)
    own = torch.zeros(len(chosen), classes, dtype=torch.bool)
    for expert, group in enumerate(expert_groups):
        own[expert, list(groups.members[group])] = True
    known = own.clone()
    known[:, -1] = True
    share = torch.zeros(classes)
    if frequency is not None and frequency.instances is not None:
        share[:-1] = torch.from_numpy(frequency.counts("instances") / max(1, frequency.counts("instances").sum()))
    while isinstance(loss, WrappedLoss):
        loss = loss.loss
    reading = getattr(type(loss), "probabilities", None)
    plain = reading is None or reading is ClassificationLoss.probabilities  # softmax, which ensembles may take apart
    if isinstance(loss, Reading):
        plain = not loss.sigmoids
    return Experts(
        num_experts=len(chosen),
        num_classes=classes,
        groups=groups,
        label_sets=known,
        own_classes=own,
        share=share,
        expert_groups=expert_groups,
        unit="instances",
        frequency=frequency,
        activation=None if plain else loss.probabilities,
        absolute_logits=bool(getattr(loss, "absolute_logits", False)),
        recorded_logits=lambda folder: (image.outputs.logits[chosen] for image in read_recording(folder)),
    )


def table_2c(average: Averaged) -> dict[str, EnsembleSpec]:
    """The other combinations of the paper's Table 2c, by name.

    Args:
        average: The detector's own, so that its plain and its aligned average differ by alignment alone.
    """
    return {
        "dynamic_unaligned": {"name": "dynamic", "align": False},
        "average_aligned": {"name": "average", "align": True, "average": average},
        "sparse": "sparse",
    }


def with_comparisons(name: str, own: EnsembleSpec, comparisons: Mapping[str, EnsembleSpec]) -> dict[str, EnsembleSpec]:
    """A detector's own ensemble by its name, and others after it.

    Raises:
        ConfigError: One of them has a name that is taken.
    """
    if name in comparisons or any(other.startswith("stage_") or other == "average" for other in comparisons):
        raise ConfigError(
            f"other ensembles {sorted(comparisons)} use a name that is taken",
            fix=f"{name!r}, 'average' and 'stage_1' … are the detector's own; choose others",
        )
    return {name: own, **comparisons}


_MEMBERS = ("num_classes", "num_stages", "set_class_losses", "set_ensembles")


def _check_fit(detector: Any, groups: CategoryGroups, frequency: ClassFrequency | None) -> None:
    lacking = [name for name in _MEMBERS if not hasattr(detector, name)]
    if lacking:
        raise ConfigError(
            f"{type(detector).__name__} is no MultiStageDetector: it lacks {', '.join(lacking)}",
            fix="add them (see longtail.mec.model.MultiStageDetector), or use a CascadeDetector",
        )
    if detector.num_classes != groups.num_classes:
        raise ConfigError(
            f"groups of {groups.num_classes} classes for a detector of {detector.num_classes}",
            fix="make the groups from the counts of the data set that the detector is for",
        )
    counts = np.ones(groups.num_classes) if frequency is None else frequency.counts("instances")
    if empty := without_objects(groups, counts):
        advice = "give every group a class" if frequency is None else advice_on_edges(counts, groups.num_groups)
        raise ConfigError(
            f"no class of group {empty[0]!r} has an object to train on (classes in the groups: "
            f"{', '.join(map(str, groups.sizes))}); its stage would be the expert of nothing",
            fix=f"{advice} (data.groups)",
        )
