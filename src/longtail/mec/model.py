"""Make a multi-stage detector multi-expert."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from longtail.detection.recording import read_recording
from longtail.ensembles.alignment import Activation
from longtail.ensembles.average import Average, Averaged
from longtail.ensembles.base import Ensemble
from longtail.ensembles.calibration import Calibrated, LogitNormalized, class_divisors
from longtail.ensembles.dynamic import DynamicEnsemble
from longtail.ensembles.sparse import SparseEnsemble
from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency, Unit
from longtail.frequency.edges import advice_on_edges, without_objects
from longtail.frequency.groups import CategoryGroups
from longtail.losses.base import ClassificationLoss
from longtail.mec.losses import Outside, expert_losses
from longtail.options import options_of, take

#: An ensemble by name, or as ``{"name": …, option: …}``.
EnsembleSpec = str | Mapping[str, Any]
_ENSEMBLES = ("average", "sparse", "dynamic", "calibrated")


@runtime_checkable
class MultiStageDetector(Protocol):
    """The interface that ``make_multi_expert`` needs: N stages, each with a classifier of C classes and the background.

    ``CascadeDetector`` has it. Your own detector needs these four members; it calls the losses and turns the ensemble's
    probabilities into boxes itself.
    """

    num_classes: int

    @property
    def num_stages(self) -> int:
        """Number of stages, N."""

    def set_class_losses(self, losses: Sequence[Any]) -> None:
        """Train stage k with ``losses[k]``: ``(logits (R, C+1), labels (R,)) -> scalar``, background is label C."""

    def set_ensembles(self, ensembles: Mapping[str, Ensemble]) -> None:
        """Read the stages' logits (N, R, C+1) through ``ensembles``, the first for the detector's own prediction."""


Detector = TypeVar("Detector", bound=MultiStageDetector)


def make_multi_expert(
    detector: Detector,
    groups: CategoryGroups,
    *,
    overall_weight: float = 0.7,
    outside: Outside = "plain",
    base: Callable[[], ClassificationLoss] | None = None,
    ensemble: EnsembleSpec = "dynamic",
    further: Mapping[str, EnsembleSpec] | None = None,
    frequency: ClassFrequency | None = None,
) -> Detector:
    """Make stage k of a detector the expert of group k, in training and in inference.

    The network is unchanged: no parameter is added, and a checkpoint of the plain detector fits.

    Args:
        detector: Any multi-stage detector; it is changed in place and returned.
        groups: One group per stage, rarest first.
        overall_weight: λ of Eq. 2; 1 is the plain loss.
        outside: See ``MultiExpertLoss``.
        base: Makes the classification loss of one stage that the expert loss is mixed with; None for cross-entropy.
        ensemble: The detector's own prediction, ``mec``: ``dynamic`` (with group alignment), ``sparse``, ``average``,
            or a dict of that name and options of its class.
        further: Other ensembles to read; None for those of the paper's Table 2c.
        frequency: Counts of the training split, for ensembles that calibrate.

    Raises:
        ConfigError: The numbers of stages or classes do not fit, or the ensemble is unknown.

    Source: MEC §3.
    """
    _check_fit(detector, groups, frequency)
    losses = expert_losses(groups, overall_weight=overall_weight, outside=outside, base=base)
    detector.set_class_losses(losses)
    if further is None:
        further = table_2c(getattr(getattr(detector, "config", None), "average", "probabilities"))
    ensembles = named_ensembles(with_further("mec", ensemble, further), groups, losses, frequency)
    check_reading(ensembles, torch.zeros(len(losses), 1, losses[0].num_logits))
    detector.set_ensembles(ensembles)
    return detector


def check_reading(ensembles: Mapping[str, Ensemble], logits: Float[Tensor, "stages 1 logits"]) -> None:
    """Try the ensembles on some logits, so that one that cannot read them is found before training.

    Raises:
        ConfigError: An ensemble does not fit these logits; names it.
    """
    for name, ensemble in ensembles.items():
        try:
            ensemble(logits)
        except ConfigError as error:
            raise ConfigError(f"ensemble {name!r}: {error.problem}", fix=error.fix) from error


def named_ensembles(
    specs: Mapping[str, EnsembleSpec],
    groups: CategoryGroups,
    losses: Sequence[Any] | None = None,
    frequency: ClassFrequency | None = None,
) -> dict[str, Ensemble]:
    """Ensembles by the names under which they are read.

    Args:
        specs: Name -> ensemble.
        groups: Groups of the foreground classes.
        losses: The stages' losses, expert losses or plain ones, which say how logits are read; None for softmax.
        frequency: See ``build_ensemble``.
    """
    last = losses[-1] if losses else None
    base = getattr(last, "base", last)
    level = bool(getattr(base, "absolute_logits", False))
    return {
        name: build_ensemble(spec, groups, _activation(base), frequency, keep_level=level)
        for name, spec in specs.items()
    }


def _activation(loss: Any) -> Activation | None:
    """How a loss reads logits; None where that is softmax, which ensembles may take apart."""
    own = getattr(type(loss), "probabilities", None)
    return None if own is None or own is ClassificationLoss.probabilities else loss.probabilities


def build_ensemble(
    spec: EnsembleSpec,
    groups: CategoryGroups,
    activation: Activation | None = None,
    frequency: ClassFrequency | None = None,
    *,
    keep_level: bool = False,
) -> Ensemble:
    """One ensemble of stages by name.

    Args:
        spec: ``average``, ``sparse`` or ``dynamic``; or ``{"name": …}`` with options of ``Average``,
            ``SparseEnsemble`` or ``DynamicEnsemble``; or one of these calibrated, with arguments of
            ``build_calibrated``: ``{"name": "calibrated", "by": "norcal", "inner": …, …}``.
        groups: Groups of the foreground classes.
        activation: How the loss reads logits; None for softmax.
        frequency: Counts of the training split, for ``calibrated``.
        keep_level: The loss has ``absolute_logits``: what alignment does unless the spec says otherwise.
    """
    options: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    if name not in _ENSEMBLES:
        raise ConfigError(f"there is no ensemble of stages {name!r}", fix=f"choose one of {_ENSEMBLES}")
    what = f"ensemble {name!r}"
    if name == "calibrated":
        inner = build_ensemble(options.pop("inner", "average"), groups, activation, frequency, keep_level=keep_level)
        known = options_of(build_calibrated, ("inner", "groups", "frequency"))
        return build_calibrated(inner, groups, frequency, **take(what, options, known))
    kind: Any = {"average": Average, "sparse": SparseEnsemble, "dynamic": DynamicEnsemble}[name]
    given = {"groups": groups, "activation": activation}
    return kind(**given, **{"keep_level": keep_level, **take(what, options, options_of(kind, given))})


def build_calibrated(
    inner: Ensemble,
    groups: CategoryGroups,
    frequency: ClassFrequency | None = None,
    *,
    by: Literal["norcal", "logit_adjustment", "logn"],
    gamma: float = 0.6,
    tau: float = 1.0,
    unit: Unit | None = None,
    independent: bool = False,
    recording: str | None = None,
    stages: int | None = None,
) -> Ensemble:
    """An ensemble calibrated after training.

    Args:
        inner: The ensemble.
        groups: Groups of the foreground classes.
        frequency: Counts of the training split, for ``norcal`` and ``logit_adjustment``.
        by: ``norcal`` divides by the size of the classes, ``logit_adjustment`` by their share of the training
            objects, ``logn`` normalises their logits.
        gamma: Power of the size; only for ``norcal``.
        tau: Power of the share; only for ``logit_adjustment``.
        unit: What is counted; None for images with ``norcal``, instances with ``logit_adjustment``.
        independent: The loss reads logits as one sigmoid per class.
        recording: Recorded stages of training images, whose statistics ``logn`` takes.
        stages: Number of stages; None for as many as groups. Only for ``logn``.

    Raises:
        ConfigError: An unknown ``by``, or its counts or recording are missing.
        DataError: There is no recording in the folder.
    """
    if by == "logn":
        if recording is None:
            raise ConfigError(
                "logn needs logits of training images",
                fix='give "recording": a folder of `longtail evaluate RUN --split train --record FOLDER`',
            )
        normalized = LogitNormalized(inner, stages or groups.num_groups, groups.num_classes)
        for image in read_recording(recording):
            normalized.observe(image.outputs.logits)
        return normalized
    if frequency is None:
        raise ConfigError(f"{by} needs the counts of the training split", fix="pass frequency=")
    counted: Unit = unit or ("images" if by == "norcal" else "instances")
    divisors = class_divisors(frequency, by, gamma=gamma, tau=tau, unit=counted)
    return Calibrated(inner, divisors, independent=independent)


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


def with_further(name: str, own: EnsembleSpec, further: Mapping[str, EnsembleSpec]) -> dict[str, EnsembleSpec]:
    """A detector's own ensemble by its name, and others after it.

    Raises:
        ConfigError: One of them has a name that is taken.
    """
    if name in further or any(other.startswith("stage_") or other == "average" for other in further):
        raise ConfigError(
            f"further ensembles {sorted(further)} use a name that is taken",
            fix=f"{name!r}, 'average' and 'stage_1' … are the detector's own; choose others",
        )
    return {name: own, **further}


_MEMBERS = ("num_classes", "num_stages", "set_class_losses", "set_ensembles")


def _check_fit(detector: Any, groups: CategoryGroups, frequency: ClassFrequency | None) -> None:
    lacking = [name for name in _MEMBERS if not hasattr(detector, name)]
    if lacking:
        raise ConfigError(
            f"{type(detector).__name__} is no MultiStageDetector: it lacks {', '.join(lacking)}",
            fix="add them (see longtail.mec.model.MultiStageDetector), or use a CascadeDetector",
        )
    if detector.num_stages != groups.num_groups:
        raise ConfigError(
            f"{groups.num_groups} groups {groups.names} of sizes {groups.sizes} for {detector.num_stages} stages",
            fix="give as many groups as stages; for four stages the paper cuts at 10, 100 and 500 instances",
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
