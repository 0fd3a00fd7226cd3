"""Detection methods by name, from plain settings."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from longtail.detection.build import build_detector
from longtail.detection.cascade_rcnn import CascadeDetector
from longtail.ensembles.build import EnsembleSpec, check_reading
from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency
from longtail.frequency.groups import CategoryGroups
from longtail.losses.base import ClassificationLoss
from longtail.losses.build import LossSpec, build_loss
from longtail.losses.label_space import LabelSpace
from longtail.mec.losses import Outside, expert_losses
from longtail.mec.model import make_multi_expert, named_ensembles, with_further
from longtail.models.classifier_phase import add_classifier_phase

_IOUS = (0.5, 0.6, 0.7, 0.8, 0.9)


def build_detection_method(
    name: str,
    *,
    groups: CategoryGroups,
    detector: Mapping[str, Any] | None = None,
    overall_weight: float = 0.7,
    outside: Outside = "plain",
    base: Callable[[], ClassificationLoss] | None = None,
    loss: LossSpec | None = None,
    frequency: ClassFrequency | None = None,
    ensemble: EnsembleSpec = "dynamic",
    further: Mapping[str, EnsembleSpec] | None = None,
    classifier_phase: Mapping[str, Any] | None = None,
) -> CascadeDetector:
    """A detection method: the plain cascade, or the multi-expert one.

    Args:
        name: ``baseline``: the cascade as it is, its own prediction the plain average of its dialect. ``mec``: see
            ``make_multi_expert``.
        groups: Groups of the classes by training instances, rarest first; one per stage for ``mec``.
        detector: Arguments of ``detection.build_detector``. Without ``ious`` there are as many stages as groups, with
            thresholds 0.5, 0.6, ….
        overall_weight: λ; only for ``mec``.
        outside: See ``MultiExpertLoss``; only for ``mec``.
        base: Makes the classification loss of one stage; None for cross-entropy. ``mec`` mixes it with the groups' own.
        loss: ``base`` as plain settings: a name, or ``{"name": …, option: …}``; see ``losses.build_loss``.
        frequency: Counts of the training split, for ``loss`` and ensembles that calibrate.
        ensemble: See ``make_multi_expert``; only for ``mec``.
        further: Other ensembles to read beside the method's own; None for the paper's Table 2c with ``mec`` and none
            with ``baseline``.
        classifier_phase: Train second classifiers afterwards: arguments of ``add_classifier_phase``; only for
            ``baseline``.

    Raises:
        ConfigError: An unknown name or setting, or numbers of stages and groups that do not fit.
    """
    if classifier_phase is not None and (name != "baseline" or further):
        raise ConfigError(
            f"classifier_phase with method {name!r}{' and further ensembles' if further else ''}",
            fix="second classifiers are trained on a baseline and read by its plain average",
        )
    if loss is not None:
        base = _stage_loss(loss, frequency, base)
    if groups.num_groups > len(_IOUS) and "ious" not in (detector or {}):
        raise ConfigError(
            f"{groups.num_groups} groups, and IoU thresholds for at most {len(_IOUS)} stages",
            fix="give ious, one threshold per stage, or fewer groups (data.groups)",
        )
    settings = {"ious": _IOUS[: groups.num_groups], "num_classes": groups.num_classes, **dict(detector or {})}
    if settings["num_classes"] != groups.num_classes:
        raise ConfigError(
            f"a detector of {settings['num_classes']} classes for groups of {groups.num_classes}",
            fix="leave num_classes to the groups",
        )
    if name == "baseline":
        plain_losses = None if base is None else [base() for _ in settings["ious"]]
        plain = build_detector(**settings, losses=plain_losses)
        plain.count_positives(groups)
        if classifier_phase is not None:
            kind = settings.get("classifier", "linear")
            add_classifier_phase(plain, frequency, classifier=kind, base=base, **classifier_phase)
        if further:
            # the plain average stays the method's own prediction
            own: EnsembleSpec = {"name": "average", "average": plain.config.average}
            ensembles = named_ensembles(with_further("baseline", own, further), groups, plain_losses, frequency)
            check_reading(
                ensembles,
                torch.zeros(plain.num_stages, 1, plain.heads.current_losses.num_logits),
                groups.num_classes + 1,
            )
            plain.set_ensembles(ensembles)
        return plain
    if name != "mec":
        raise ConfigError(f"there is no detection method {name!r}", fix="choose 'baseline' or 'mec'")
    # built with these losses at once: they say how many logits the classifiers have
    losses = expert_losses(groups, base=base) if len(settings["ious"]) == groups.num_groups else None
    cascade = build_detector(**settings, losses=losses)
    cascade.count_positives(groups)
    return make_multi_expert(
        cascade,
        groups,
        overall_weight=overall_weight,
        outside=outside,
        base=base,
        ensemble=ensemble,
        further=further,
        frequency=frequency,
    )


def _stage_loss(
    loss: LossSpec, frequency: ClassFrequency | None, base: Callable[[], ClassificationLoss] | None
) -> Callable[[], ClassificationLoss]:
    if frequency is None or base is not None:
        raise ConfigError(
            f"the loss {loss!r} comes {'without a frequency' if frequency is None else 'beside another, base'}",
            fix="pass frequency=, the counts of the training split" if frequency is None else "leave one of them out",
        )
    return partial(build_loss, loss, LabelSpace.of_boxes(frequency))
