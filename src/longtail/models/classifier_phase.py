"""Train second classifiers on a finished detector: the two-step comparison methods."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch

from longtail.detection.cascade_rcnn import CascadeDetector
from longtail.detection.second_head import SecondHead
from longtail.detection.stage import CLASSIFIERS, StageLosses
from longtail.detection.two_heads import TwoHeadsLoss
from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency
from longtail.losses.base import ClassificationLoss
from longtail.losses.build import LossSpec, build_loss
from longtail.losses.classifier import start_bias
from longtail.losses.cross_entropy import CrossEntropy
from longtail.losses.label_space import LabelSpace


def add_classifier_phase(
    detector: CascadeDetector,
    frequency: ClassFrequency | None,
    *,
    classifier: str = "linear",
    base: Callable[[], ClassificationLoss] | None = None,
    loss: LossSpec | None = None,
    head: Literal["classifier", "box"] = "classifier",
    reset: bool = False,
    beside: bool = False,
    threshold: int = 300,
) -> CascadeDetector:
    """Add a training phase ``classifier`` to a detector, which trains second classifiers alone.

    With nothing but another sampling it is the classifier-only fine-tuning of MEC's comparisons 3 and 5; with
    ``loss="balanced_group_softmax"``, BAGS (10); with ``head="box", beside=True`` and two-level sampling, the
    classification calibration head (9).

    Args:
        detector: It is changed in place and returned.
        frequency: Counts of the training split.
        classifier: Kind of the second classifiers.
        base: Makes the loss of the first classifiers; None for cross-entropy.
        loss: Loss of the second classifiers; None: the loss of the first.
        head: Trained part: the classifier, or also a copy of the two shared layers before it.
        reset: Begin with random classifiers instead of the trained ones.
        beside: Keep the first classifiers for classes with more than ``threshold`` instances and the background.
        threshold: See ``TwoHeadsLoss``.

    Raises:
        ConfigError: There is no frequency, or an unknown setting.

    Source: Decoupling (Kang 2020) cRT; SimCal (Wang 2020); BAGS (Li 2020); PEERS part 2 §4.
    """
    if frequency is None:
        raise ConfigError(
            "classifier_phase without a frequency", fix="pass frequency=, the counts of the training split"
        )
    if classifier not in ("linear", "cosine"):
        raise ConfigError(f"classifier_phase with a {classifier!r} classifier", fix="choose linear or cosine")
    if head not in ("classifier", "box"):
        raise ConfigError(f"classifier_phase.head is {head!r}", fix="choose 'classifier' or 'box'")
    labels = LabelSpace.of_boxes(frequency)
    first: Callable[[], ClassificationLoss] = base or partial(CrossEntropy, labels)
    second = first if loss is None else partial(build_loss, loss, labels)
    counts = torch.from_numpy(frequency.counts("instances").copy())
    losses: list[Any] = []
    heads = []
    for stage in detector.heads.box_stages:
        own = second()
        made = CLASSIFIERS[classifier](stage.regressor.in_features, own.num_logits)
        start_bias(made, own)
        heads.append(SecondHead(stage.shared, made, whole=head == "box", beside=beside))
        losses.append(TwoHeadsLoss(first(), own, counts, threshold) if beside else own)
    detector.add_classifier_phase(heads, StageLosses(losses, detector.num_stages, detector.num_classes), reset=reset)
    return detector
