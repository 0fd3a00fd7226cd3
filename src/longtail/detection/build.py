"""Detectors by name, from settings that a configuration file can hold."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from longtail.classifiers.deconfound import DeconfoundClassifier
from longtail.detection.backbones.pyramid import PyramidBackbone, build_backbone
from longtail.detection.cascade import Cascade
from longtail.detection.cascade_rcnn import CascadeDetector
from longtail.detection.config import CascadeConfig
from longtail.detection.htc import HybridTaskCascade
from longtail.detection.rpn import ProposalNetwork
from longtail.detection.stage import CLASSIFIERS, ClassifierFactory, StageLoss, StageLosses
from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError


def cascade_rcnn(
    backbone: PyramidBackbone,
    config: CascadeConfig,
    *,
    losses: StageLoss | Sequence[StageLoss] | None = None,
    classifier: ClassifierFactory | str = "linear",
    ensembles: Mapping[str, Ensemble] | None = None,
) -> CascadeDetector:
    """Cascade (Mask) R-CNN on a backbone.

    Args:
        backbone: Feature pyramid; its last level is for proposals only.
        config: Settings; ``CascadeConfig.mmdetection`` and ``.detectron2`` are the known dialects.
        losses: Classification loss, or one a stage; None for cross-entropy.
        classifier: ``linear``, ``cosine``, ``deconfound``, or what builds one from its numbers of inputs and outputs.
        ensembles: Readouts by name, the detector's own first; None for the plain average.
    """
    class_losses = StageLosses(losses, config.num_stages, config.num_classes)
    heads = Cascade(
        config, backbone.channels, backbone.strides[:-1], class_losses, _classifier(classifier, class_losses)
    )
    return _detector(backbone, config, heads, ensembles)


def hybrid_task_cascade(
    backbone: PyramidBackbone,
    config: CascadeConfig,
    *,
    losses: StageLoss | Sequence[StageLoss] | None = None,
    classifier: ClassifierFactory | str = "linear",
    ensembles: Mapping[str, Ensemble] | None = None,
    semantic_classes: int | None = None,
) -> CascadeDetector:
    """Hybrid Task Cascade on a backbone; arguments as of ``cascade_rcnn``.

    Args:
        backbone: As of ``cascade_rcnn``.
        config: As of ``cascade_rcnn``; masks must be ``every_stage``.
        losses: As of ``cascade_rcnn``.
        classifier: As of ``cascade_rcnn``.
        ensembles: As of ``cascade_rcnn``.
        semantic_classes: Number of classes of the semantic branch, whose targets are ``semantic`` maps; None for no
            such branch.
    """
    class_losses = StageLosses(losses, config.num_stages, config.num_classes)
    heads = HybridTaskCascade(
        config,
        backbone.channels,
        backbone.strides[:-1],
        class_losses,
        _classifier(classifier, class_losses),
        semantic_classes,
    )
    return _detector(backbone, config, heads, ensembles)


def build_detector(
    name: str = "cascade",
    *,
    num_classes: int,
    dialect: str = "mmdetection",
    ious: Sequence[float] = (0.5, 0.6, 0.7),
    backbone: str = "torchvision/resnet50",
    backbone_options: Mapping[str, Any] | None = None,
    losses: StageLoss | Sequence[StageLoss] | None = None,
    classifier: str = "linear",
    ensembles: Mapping[str, Ensemble] | None = None,
    semantic_classes: int | None = None,
    **settings: Any,
) -> CascadeDetector:
    """A detector from settings alone.

    Args:
        name: ``cascade`` (Cascade R-CNN) or ``htc`` (Hybrid Task Cascade).
        num_classes: Number of foreground classes C.
        dialect: Whose Cascade R-CNN: ``mmdetection`` or ``detectron2``.
        ious: IoU threshold of every stage.
        backbone: See ``build_backbone``.
        backbone_options: Further arguments of ``build_backbone`` (``weights``, ``norm``, ``frozen_stages``, …).
        losses: See ``cascade_rcnn``.
        classifier: ``linear``, ``cosine`` or ``deconfound``.
        ensembles: See ``cascade_rcnn``.
        semantic_classes: See ``hybrid_task_cascade``.
        **settings: Fields of ``CascadeConfig`` that differ from the dialect; nested ones may be dicts.

    Raises:
        ConfigError: An unknown name or setting.
    """
    presets = {"mmdetection": CascadeConfig.mmdetection, "detectron2": CascadeConfig.detectron2}
    if dialect not in presets or name not in ("cascade", "htc"):
        raise ConfigError(
            f"no detector {name!r} in dialect {dialect!r}", fix="choose cascade or htc, mmdetection or detectron2"
        )
    config = presets[dialect](num_classes, tuple(ious), **settings)
    pyramid = build_backbone(backbone, **dict(backbone_options or {}))
    parts: dict[str, Any] = {"losses": losses, "classifier": classifier, "ensembles": ensembles}
    if name == "htc":
        return hybrid_task_cascade(pyramid, config, semantic_classes=semantic_classes, **parts)
    return cascade_rcnn(pyramid, config, **parts)


def _detector(
    backbone: PyramidBackbone,
    config: CascadeConfig,
    heads: Cascade | HybridTaskCascade,
    ensembles: Mapping[str, Ensemble] | None,
) -> CascadeDetector:
    levels = len(config.proposals.anchor_sizes)
    if levels != len(backbone.strides):
        raise ConfigError(
            f"{levels} anchor sizes {config.proposals.anchor_sizes} for {len(backbone.strides)} pyramid levels",
            fix="give one anchor size for each pyramid level",
        )
    proposals = ProposalNetwork(backbone.channels, backbone.strides, config.proposals, config.crowd_overlap)
    return CascadeDetector(backbone, proposals, heads, ensembles)


def _classifier(classifier: ClassifierFactory | str, losses: StageLosses) -> ClassifierFactory:
    if not isinstance(classifier, str):
        return classifier
    if classifier not in CLASSIFIERS:
        raise ConfigError(f"no classifier {classifier!r}", fix=f"choose one of {sorted(CLASSIFIERS)}")
    factory = CLASSIFIERS[classifier]
    if factory is DeconfoundClassifier:  # it must know which outputs are classes
        return partial(DeconfoundClassifier, exempt=losses.num_logits - losses.num_classes)
    return factory
