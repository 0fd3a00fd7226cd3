"""Build detectors from plain settings."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from longtail.classifiers.deconfound import DeconfoundClassifier
from longtail.components import Spec, split
from longtail.detection.backbones.pyramid import PyramidBackbone, build_backbone
from longtail.detection.cascade import Cascade
from longtail.detection.cascade_rcnn import CascadeDetector
from longtail.detection.config import CascadeConfig, is_cascade
from longtail.detection.htc import HybridTaskCascade
from longtail.detection.rpn import ProposalNetwork
from longtail.detection.stage import CLASSIFIERS, ClassifierFactory, StageLoss, StageLosses
from longtail.detection.staged import StagedDetector
from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError
from longtail.settings import read


def build_cascade(
    backbone: PyramidBackbone,
    config: CascadeConfig,
    name: str = "cascade",
    *,
    losses: StageLoss | Sequence[StageLoss] | None = None,
    classifier: ClassifierFactory | str = "linear",
    ensembles: Mapping[str, Ensemble] | None = None,
    semantic_classes: int | None = None,
) -> CascadeDetector:
    """Build a cascade detector on a backbone.

    Args:
        backbone: Feature pyramid; its last level is for proposals only.
        config: Settings; ``CascadeConfig.mmdetection`` and ``.detectron2`` are the known dialects.
        name: ``cascade`` (Cascade R-CNN) or ``htc`` (Hybrid Task Cascade, whose masks must be ``every_stage``).
        losses: One classification loss, or a list with one for each stage; None for cross-entropy.
        classifier: ``linear``, ``cosine``, ``deconfound``, or a function of the numbers of inputs and outputs.
        ensembles: Readouts by name, the detector's own first; None for the plain average.
        semantic_classes: Number of classes of HTC's semantic branch, whose targets are ``semantic`` maps; None for no
            such branch.

    Raises:
        ConfigError: Parts that do not fit each other.
    """
    if name not in ("cascade", "htc") or (name == "cascade" and semantic_classes is not None):
        raise ConfigError(
            f"there is no detector {name!r}" if semantic_classes is None else f"{name} has no semantic branch",
            fix="choose cascade or htc; only htc takes semantic_classes",
        )
    levels = len(config.proposals.anchor_sizes)
    if levels != len(backbone.strides):
        raise ConfigError(
            f"{levels} anchor sizes {config.proposals.anchor_sizes} for {len(backbone.strides)} pyramid levels",
            fix="give one anchor size for each pyramid level",
        )
    class_losses = StageLosses(losses, config.num_stages, config.num_classes)
    kind = Cascade if name == "cascade" else partial(HybridTaskCascade, semantic_classes=semantic_classes)
    heads = kind(config, backbone.channels, backbone.strides[:-1], class_losses, _classifier(classifier, class_losses))
    proposals = ProposalNetwork(backbone.channels, backbone.strides, config.proposals, config.crowd_overlap)
    return CascadeDetector(backbone, proposals, heads, ensembles)


def build_staged_detector(
    name: str = "cascade",
    *,
    num_classes: int,
    losses: StageLoss | Sequence[StageLoss] | None = None,
    **settings: Any,
) -> StagedDetector:
    """Any detector of stages from settings alone.

    Args:
        name: ``cascade``, ``htc``, ``torchvision:`` and a Faster or Mask R-CNN, or ``transformers:`` and a model type, a
            folder or a name of the Hub.
        num_classes: Number of foreground classes C.
        losses: Classification losses of a cascade, see ``build_cascade``.
        **settings: Arguments of ``build_detector``, ``torchvision_models.build_torchvision_cascade`` or
            ``queries.build.build_query_detector``.

    Raises:
        ConfigError: An unknown name or setting, or a loss for a detector that keeps its own.
    """
    library, _, source = name.partition(":")
    if library == "torchvision":
        from longtail.detection.torchvision_models import build_torchvision_cascade

        return build_torchvision_cascade(source, num_classes, losses=losses, **settings)
    if is_cascade(name):
        return build_detector(name, num_classes=num_classes, losses=losses, **settings)
    from longtail.detection.queries.build import build_query_detector

    if losses is not None:
        raise ConfigError(
            f"{name} keeps its own classification loss",
            fix="leave method.loss out; mec is mixed with the detector's own",
        )
    return build_query_detector(source, num_classes, **settings)


def build_detector(
    name: str = "cascade",
    *,
    num_classes: int,
    dialect: str = "mmdetection",
    ious: Sequence[float] = (0.5, 0.6, 0.7),
    backbone: Spec = "torchvision/resnet50",
    losses: StageLoss | Sequence[StageLoss] | None = None,
    classifier: str = "linear",
    ensembles: Mapping[str, Ensemble] | None = None,
    semantic_classes: int | None = None,
    **settings: Any,
) -> CascadeDetector:
    """Build a detector from settings alone.

    Args:
        name: ``cascade`` (Cascade R-CNN) or ``htc`` (Hybrid Task Cascade).
        num_classes: Number of foreground classes C.
        dialect: Whose Cascade R-CNN: ``mmdetection`` or ``detectron2``.
        ious: IoU threshold of every stage.
        backbone: Name of a network, or with arguments of ``build_backbone`` (``weights``, ``norm``, ``frozen_stages`` …) as
            ``{"name": "resnest200e", "norm": "frozen"}``.
        losses: See ``build_cascade``.
        classifier: ``linear``, ``cosine`` or ``deconfound``.
        ensembles: See ``build_cascade``.
        semantic_classes: See ``build_cascade``.
        **settings: Fields of ``CascadeConfig`` that differ from the dialect; nested ones may be dicts.

    Raises:
        ConfigError: An unknown name or setting.
    """
    presets = {"mmdetection": CascadeConfig.mmdetection, "detectron2": CascadeConfig.detectron2}
    if dialect not in presets:
        raise ConfigError(f"there is no dialect {dialect!r}", fix=f"choose one of {sorted(presets)}")
    config = presets[dialect](num_classes, tuple(ious), **settings)
    network, options = split(backbone)
    pyramid = build_backbone(network, **read(build_backbone, options, subject=f"backbone {network!r}", given=["name"]))
    return build_cascade(
        pyramid,
        config,
        name,
        losses=losses,
        classifier=classifier,
        ensembles=ensembles,
        semantic_classes=semantic_classes,
    )


def _classifier(classifier: ClassifierFactory | str, losses: StageLosses) -> ClassifierFactory:
    if not isinstance(classifier, str):
        return classifier
    if classifier not in CLASSIFIERS:
        raise ConfigError(f"no classifier {classifier!r}", fix=f"choose one of {sorted(CLASSIFIERS)}")
    factory = CLASSIFIERS[classifier]
    if factory is DeconfoundClassifier:  # it must know which outputs are classes
        return partial(DeconfoundClassifier, exempt=losses.num_logits - losses.num_classes)
    return factory
