"""Segmentation methods by name, from plain settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from longtail.ensembles.base import Ensemble
from longtail.ensembles.build import EnsembleSpec, Experts, build_ensemble, check_reading
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.losses.base import ClassificationLoss
from longtail.losses.build import LossSpec, build_loss
from longtail.losses.cross_entropy import CrossEntropy, Normalizer
from longtail.losses.label_space import LabelSpace
from longtail.medoe.bank import ExpertDecoders, Gradient, Initialise, SharedDecoderHeads, copies
from longtail.medoe.experts import LabelSets, Overlap
from longtail.medoe.losses import ExpertLossOptions
from longtail.medoe.model import Medoe
from longtail.options import from_dict, nearest, options_of, take
from longtail.segmentation.baseline import Baseline
from longtail.segmentation.encoder_decoder import EncoderDecoder
from longtail.segmentation.method import SegmentationMethod
from longtail.segmentation.model_ensemble import ModelEnsemble
from longtail.segmentation.two_step import TwoStep

#: Ensembles of the paper's Table 6 and the plain average: read beside the method's own unless told otherwise.
TABLE_6: dict[str, EnsembleSpec] = {
    "mean": "average",
    "argmax": "argmax",
    "softmax_threshold": "softmax_threshold",
    "group_average": "group_average",
}


@dataclass(frozen=True)
class ClassifierPhase:
    """Re-training of a baseline's classifier on frozen features.

    Args:
        loss: As ``losses.build_loss`` reads it; None: the loss of the first phase.
        reset: Begin with random weights instead of the trained ones.
        sampling: Which images are shown, as ``data.sampling.by``; training reads it. None: that of the run.
    """

    loss: LossSpec | None = None
    reset: bool = False
    sampling: str | None = None


def build_method(
    name: str,
    model: EncoderDecoder,
    *,
    frequency: ClassFrequency,
    groups: CategoryGroups,
    ignore_index: int = 255,
    **options: Any,
) -> SegmentationMethod:
    """A segmentation method around a model.

    Args:
        name: ``baseline``, ``medoe``, ``mcn`` (shared decoder, K classifiers) or ``model_ensemble`` (K networks).
        model: Any encoder-decoder; it becomes part of the method.
        frequency: Counts of the training split: the prior of Eq. 4.
        groups: One expert per group, most frequent first.
        ignore_index: Target value of pixels without a label.
        options: Keyword arguments of ``baseline``, ``medoe``, … in this file, all plain JSON values.

    Raises:
        ConfigError: Unknown name, option or value, or numbers of classes that differ.
    """
    builder = _choose("method", name, _METHODS)
    known = options_of(medoe, (*_GIVEN, "shared_decoder")) if builder is mcn else options_of(builder, _GIVEN)
    options = take(f"method {name!r}", options, known)
    for what, count in (("frequency", frequency.num_classes), ("groups", groups.num_classes)):
        if count != model.num_classes:
            raise ConfigError(
                f"the {what} know {count} classes, the model {model.num_classes}",
                fix="count, group and predict the same classes",
            )
    return builder(model, frequency=frequency, groups=groups, ignore_index=ignore_index, **options)


def baseline(
    model: EncoderDecoder,
    *,
    frequency: ClassFrequency,
    groups: CategoryGroups,
    ignore_index: int,
    normalizer: Normalizer = "valid",
    loss: LossSpec | None = None,
    comparisons: Mapping[str, EnsembleSpec] | None = None,
    classifier_phase: Mapping[str, Any] | None = None,
) -> Baseline:
    """The plain segmentor.

    Args:
        model: Any encoder-decoder.
        frequency: Counts of the training split, which losses read.
        groups: Not read.
        ignore_index: Target value of pixels without a label.
        normalizer: See ``losses.cross_entropy``; of cross-entropy.
        loss: Loss of the main head, as ``losses.build_loss`` reads it; None for cross-entropy.
        comparisons: Other readings of its logits, by name: calibrated ones such as ``{"name": "logit_adjustment", "tau":
            0.5}``, and any other ensemble, of a single expert.
        classifier_phase: Fields of ``ClassifierPhase``: the classifier is trained anew afterwards, all else frozen.

    Raises:
        ConfigError: An unknown loss or option, or a ``normalizer`` beside the loss's own.
    """
    if loss is not None and normalizer != "valid":
        raise ConfigError(
            f"the baseline has normalizer={normalizer!r} beside a loss of its own",
            fix="give it to the loss: {name: …, normalizer: …}",
        )

    labels = LabelSpace.of_pixels(frequency, ignore_index)

    def build(spec: LossSpec | None) -> ClassificationLoss:
        if spec is None:
            return CrossEntropy(labels, normalizer=normalizer)
        return build_loss(spec, labels)

    if classifier_phase is None:
        first = build(loss)
        return Baseline(model, first, ignore_index, _baseline_readings(comparisons, first, groups, frequency))
    later = from_dict(ClassifierPhase, classifier_phase, "classifier_phase")
    head = copies(model.expert.head, 1, "reset" if later.reset else "copy")[0]
    second = build(loss if later.loss is None else later.loss)
    readings = _baseline_readings(comparisons, second, groups, frequency)
    return TwoStep(model, build(loss), head, second, ignore_index, readings, later.reset)


def medoe(
    model: EncoderDecoder,
    *,
    frequency: ClassFrequency,
    groups: CategoryGroups,
    ignore_index: int,
    overlap: Overlap = "nested",
    label_sets: list[list[int]] | None = None,
    initialise: Initialise = "copy",
    loss: Mapping[str, Any] | None = None,
    ensemble: EnsembleSpec = "learned",
    comparisons: Mapping[str, EnsembleSpec] | list[str] | None = None,
    restrict_oracle: bool = False,
    shared_decoder: bool = False,
    gradient: Gradient = "first",
) -> Medoe:
    """MEDOE; with an ensemble without parameters, MED alone.

    Args:
        model: Any encoder-decoder.
        frequency: Counts of the training split.
        groups: Head, body, tail; any number of groups, most frequent first.
        ignore_index: Target value of pixels without a label.
        overlap: How label sets follow from the groups.
        label_sets: The label sets themselves, instead of ``overlap``.
        initialise: ``copy`` or ``reset`` for the weights of experts 2 … K.
        loss: Fields of ``ExpertLossOptions``.
        ensemble: Name of an ensemble, or ``{"name": …, option: …}``.
        comparisons: Other ensembles to evaluate, by name; default: those of Table 6.
        restrict_oracle: Whether the oracle's softmax runs over the expert's label set alone.
        shared_decoder: One decoder and K classifiers: MCN.
        gradient: Which classifiers of MCN train what they share, ``first`` or ``all``.
    """
    sets = (
        LabelSets.from_groups(groups, overlap)
        if label_sets is None
        else LabelSets.explicit(label_sets, groups.num_classes)
    )
    chosen = TABLE_6 if comparisons is None else comparisons
    specs = chosen if isinstance(chosen, Mapping) else {spec: spec for spec in chosen}
    bank = (
        SharedDecoderHeads(model.expert, sets.num_experts, initialise, gradient)
        if shared_decoder
        else ExpertDecoders(model.expert, sets.num_experts, initialise)
    )
    experts = _decoders(sets, groups, frequency)
    own = build_ensemble(ensemble, experts)
    others = {key: build_ensemble(spec, experts) for key, spec in specs.items()}
    name = "mcn" if shared_decoder else "medoe"
    check_reading({name: own, **others}, torch.zeros(sets.num_experts, 1, sets.num_classes, 1, 1), sets.num_classes)
    return Medoe(
        model,
        bank,
        sets,
        experts.share,
        own,
        loss=from_dict(ExpertLossOptions, loss or {}, "loss"),
        comparisons=others,
        restrict_oracle=restrict_oracle,
        name=name,
        ignore_index=ignore_index,
    )


def mcn(model: EncoderDecoder, **options: Any) -> Medoe:
    """Multi-classifier network of Table 5; arguments of ``medoe``."""
    return medoe(model, shared_decoder=True, **options)


def model_ensemble(
    model: EncoderDecoder,
    *,
    frequency: ClassFrequency,
    groups: CategoryGroups,
    ignore_index: int,
    members: int = 3,
    loss: LossSpec | None = None,
) -> ModelEnsemble:
    """ME of Table 5: ``members`` networks; each decoder has its own initial weights, encoders have those given.

    Their ``loss`` is as of ``baseline``.
    """
    models = [model, *copies(model, members - 1, "copy")]
    for other in models[1:]:
        other.expert = copies(other.expert, 1, "reset")[0]
    return ModelEnsemble(
        [baseline(m, frequency=frequency, groups=groups, ignore_index=ignore_index, loss=loss) for m in models]
    )


def _decoders(sets: LabelSets, groups: CategoryGroups, frequency: ClassFrequency) -> Experts:
    """MEDOE's experts as an ensemble sees them."""
    return Experts(
        num_experts=sets.num_experts,
        num_classes=sets.num_classes,
        groups=groups,
        label_sets=sets.masks,
        own_classes=sets.dominated,
        share=torch.from_numpy(frequency.share("pixels")).float(),
        frequency=frequency,
    )


def _baseline_readings(
    specs: Mapping[str, EnsembleSpec] | None,
    loss: ClassificationLoss,
    groups: CategoryGroups,
    frequency: ClassFrequency,
) -> dict[str, Ensemble]:
    """Other readings of a single expert's logits, such as calibrated ones."""
    everything = torch.ones(1, loss.num_classes, dtype=torch.bool)
    expert = Experts(
        num_experts=1,
        num_classes=loss.num_classes,
        groups=groups,
        label_sets=everything,
        own_classes=everything,
        share=torch.from_numpy(frequency.share("pixels")).float() if specs else torch.zeros(loss.num_classes),
        frequency=frequency,
        activation=loss.probabilities,
        absolute_logits=loss.absolute_logits,
    )
    found = {name: build_ensemble(spec, expert) for name, spec in (specs or {}).items()}
    check_reading(found, torch.zeros(1, 1, loss.num_logits, 1, 1), loss.num_classes)
    return found


#: What the data say; everything else is an option.
_GIVEN = ("model", "frequency", "groups", "ignore_index")

_METHODS: dict[str, Callable[..., SegmentationMethod]] = {
    "baseline": baseline,
    "medoe": medoe,
    "mcn": mcn,
    "model_ensemble": model_ensemble,
}

METHODS = tuple(_METHODS)


def _choose(what: str, name: str, choices: Mapping[str, Any]) -> Any:
    if name in choices:
        return choices[name]
    raise ConfigError(f"there is no {what} {name!r}", fix=f"{nearest(name, choices)}choose one of {', '.join(choices)}")
