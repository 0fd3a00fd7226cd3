"""torchvision's Faster and Mask R-CNN as cascades: the box head is copied to every stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from longtail.detection.cascade import Cascade
from longtail.detection.cascade_rcnn import CascadeDetector
from longtail.detection.config import CascadeConfig, PostprocessConfig, ProposalConfig, StageConfig
from longtail.detection.mask_head import MaskHead
from longtail.detection.rpn import ProposalNetwork
from longtail.detection.stage import BoxStage, StageLoss, StageLosses
from longtail.encoders import PRETRAINED, read_state_dict
from longtail.encoders.weights import published_weights
from longtail.errors import CheckpointError, ConfigError
from longtail.settings import from_dict, nearest, to_dict

_IOUS = (0.5, 0.6, 0.7, 0.8, 0.9)
#: Side of the image that tells the strides of a backbone's levels.
_PROBE = 256


class Levels(nn.Module):
    """A backbone of torchvision's detectors as a feature pyramid.

    Args:
        body: Image -> feature maps by name, finest first.
    """

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body
        self.channels = int(body.out_channels)

    def forward(self, image: Float[Tensor, "n bands h w"]) -> list[Tensor]:
        """Pyramid levels, finest first."""
        return list(self.body(image).values())


def as_cascade(
    model: Any,
    stages: int = 3,
    *,
    num_classes: int | None = None,
    ious: Sequence[float] | None = None,
    losses: StageLoss | Sequence[StageLoss] | None = None,
    options: Mapping[str, Any] | None = None,
) -> CascadeDetector:
    """A Cascade R-CNN of the parts of torchvision's Faster or Mask R-CNN.

    Backbone, proposals, pooling, sampling and thresholds are the model's. Every stage begins as the model's box head
    (and mask head); stage k learns from what the one before refined. The boxes of all classes become one: its
    regressor begins as the mean over the classes. Images are not scaled or normalised inside, as ``Detector`` does that.

    Args:
        model: ``torchvision.models.detection.FasterRCNN`` or ``MaskRCNN`` with a feature pyramid, one anchor size for
            each level and a head of two layers. Its backbone and proposal head are taken over, not copied.
        stages: Number of stages.
        num_classes: Number of classes C; None for the model's. Where it differs, the classifiers are new.
        ious: IoU threshold of every stage; None for 0.5, 0.6, ….
        losses: See ``build_cascade``.
        options: Fields of ``CascadeConfig`` that differ from the model's.

    Raises:
        ConfigError: The model lacks a part; says which.
    """
    ious = tuple(_IOUS[:stages] if ious is None else ious)
    if len(ious) != stages or not ious:
        raise ConfigError(f"{len(ious)} IoU thresholds for {stages} stages", fix="give ious, one for each stage")
    _check_parts(model)
    backbone, roi = Levels(model.backbone), model.roi_heads
    classes = roi.box_predictor.cls_score.out_features - 1
    config = _config(model, classes if num_classes is None else num_classes, ious, dict(options or {}))
    class_losses = StageLosses(losses, stages, config.num_classes)
    strides = _strides(backbone)
    heads = Cascade(config, backbone.channels, strides[: len(roi.box_roi_pool.featmap_names)], class_losses)
    proposals = ProposalNetwork(backbone.channels, strides, config.proposals, config.crowd_overlap)
    if proposals.head.state_dict().keys() != model.rpn.head.state_dict().keys():
        raise _lacks(model, "a proposal head of one convolution", "fasterrcnn_resnet50_fpn")
    proposals.head.load_state_dict(model.rpn.head.state_dict())
    for stage in heads.box_stages:
        _copy_box_head(stage, roi)
    for head in heads.mask_heads:
        _copy_mask_head(head, roi)  # type: ignore[arg-type]
    return CascadeDetector(backbone, proposals, heads)


def build_torchvision_cascade(
    name: str,
    num_classes: int,
    *,
    ious: Sequence[float] = (0.5, 0.6, 0.7),
    weights: str | Path | None = None,
    losses: StageLoss | Sequence[StageLoss] | None = None,
    **options: Any,
) -> CascadeDetector:
    """``as_cascade`` of a model by name.

    Args:
        name: Function of ``torchvision.models.detection``, such as ``maskrcnn_resnet50_fpn``.
        num_classes: Number of classes C.
        ious: IoU threshold of every stage.
        weights: None; ``pretrained`` for torchvision's, of COCO; or a file of the whole model's.
        losses: See ``build_cascade``.
        **options: Fields of ``CascadeConfig`` that differ from the model's.

    Raises:
        ConfigError: There is no such model, or it is no Faster or Mask R-CNN.
        CheckpointError: The weights cannot be had, or do not fit.
    """
    from torchvision.models import detection

    known = sorted(n for n in vars(detection) if n.startswith(("fasterrcnn_", "maskrcnn_")))
    if name not in known:
        raise ConfigError(
            f"there is no detector torchvision:{name}", fix=f"{nearest(name, known)}choose one of {', '.join(known)}"
        )
    make = getattr(detection, name)
    if weights == PRETRAINED:
        with published_weights(name):
            return as_cascade(
                make(weights="DEFAULT"), len(ious), num_classes=num_classes, ious=ious, losses=losses, options=options
            )
    state = None if weights is None else read_state_dict(weights)
    classes = num_classes + 1
    if state is not None and "roi_heads.box_predictor.cls_score.weight" in state:
        classes = len(state["roi_heads.box_predictor.cls_score.weight"])
    model = make(weights=None, weights_backbone=None, num_classes=classes)
    if state is not None:
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(
                f"{weights} does not fit {name}: {error}", fix="give weights of this model"
            ) from error
    return as_cascade(model, len(ious), num_classes=num_classes, ious=ious, losses=losses, options=options)


def _check_parts(model: Any) -> None:
    """Refuse models whose parts a cascade cannot take over."""
    roi, rpn = getattr(model, "roi_heads", None), getattr(model, "rpn", None)
    if roi is None or rpn is None or not hasattr(model, "backbone"):
        raise ConfigError(
            f"{type(model).__name__} has no proposals and box head (rpn, roi_heads)",
            fix="give torchvision's Faster or Mask R-CNN, or use `wrap_detector` for a DETR",
        )
    if any(len(sizes) != 1 for sizes in rpn.anchor_generator.sizes):
        raise _lacks(model, "one anchor size for each pyramid level", "fasterrcnn_resnet50_fpn")
    if not all(hasattr(roi.box_head, name) for name in ("fc6", "fc7")) or not hasattr(roi.box_predictor, "cls_score"):
        raise _lacks(
            model, "a box head of two linear layers (TwoMLPHead) and a FastRCNNPredictor", "fasterrcnn_resnet50_fpn"
        )


def _lacks(model: Any, what: str, example: str) -> ConfigError:
    return ConfigError(f"the {type(model).__name__} has not {what}", fix=f"give a model such as {example}")


def _config(model: Any, num_classes: int, ious: Sequence[float], options: dict[str, Any]) -> CascadeConfig:
    """Settings of the cascade, as the model has them."""
    roi, rpn = model.roi_heads, model.rpn
    deviations = tuple(1 / w for w in roi.box_coder.weights)
    masks = getattr(roi, "mask_predictor", None)
    found: dict[str, Any] = {
        "num_classes": num_classes,
        "stages": [
            to_dict(StageConfig(iou, tuple(d / k for d in deviations), 0.5 ** (k - 1)))
            for k, iou in enumerate(ious, start=1)
        ],
        "samples": roi.fg_bg_sampler.batch_size_per_image,
        "positive_fraction": roi.fg_bg_sampler.positive_fraction,
        "box_beta": 1 / 9,
        "masks": "none" if masks is None else "every_stage",
        "pooling_samples": roi.box_roi_pool.sampling_ratio,
        "pooling_aligned": False,
        "head_channels": roi.box_head.fc6.out_features,
        "proposals": to_dict(
            ProposalConfig(
                anchor_sizes=tuple(int(sizes[0]) for sizes in rpn.anchor_generator.sizes),
                aspect_ratios=tuple(rpn.anchor_generator.aspect_ratios[0]),
                foreground_iou=rpn.proposal_matcher.high_threshold,
                background_iou=rpn.proposal_matcher.low_threshold,
                samples=rpn.fg_bg_sampler.batch_size_per_image,
                positive_fraction=rpn.fg_bg_sampler.positive_fraction,
                candidates_train=rpn._pre_nms_top_n["training"],
                candidates_test=rpn._pre_nms_top_n["testing"],
                kept_train=rpn._post_nms_top_n["training"],
                kept_test=rpn._post_nms_top_n["testing"],
                nms_iou=rpn.nms_thresh,
            )
        ),
        "postprocess": to_dict(PostprocessConfig(roi.score_thresh, roi.nms_thresh, roi.detections_per_img)),
    }
    if masks is not None:
        convolutions = [m for m in roi.mask_head.modules() if isinstance(m, nn.Conv2d)]
        found |= {"mask_channels": convolutions[-1].out_channels, "mask_convolutions": len(convolutions)}
    for nested in ("proposals", "postprocess"):
        options[nested] = {**found[nested], **options.get(nested, {})}
    return from_dict(CascadeConfig, {**found, **options})


@torch.no_grad()
def _strides(backbone: Levels) -> tuple[int, ...]:
    """Stride of every level of a backbone."""
    training = backbone.training
    image = next(backbone.parameters()).new_zeros(1, 3, _PROBE, _PROBE)
    strides = tuple(round(_PROBE / level.shape[-1]) for level in backbone.eval()(image))
    backbone.train(training)
    return strides


@torch.no_grad()
def _copy_box_head(stage: BoxStage, roi: Any) -> None:
    """Let a stage begin as the model's box head; the background, its first class, becomes the last one."""
    stage.shared[1].load_state_dict(roi.box_head.fc6.state_dict())
    stage.shared[3].load_state_dict(roi.box_head.fc7.state_dict())
    scores, boxes = roi.box_predictor.cls_score, roi.box_predictor.bbox_pred
    classifier: Any = stage.classifier
    if classifier.weight.shape == scores.weight.shape:
        classifier.weight.copy_(scores.weight.roll(-1, 0))
        classifier.bias.copy_(scores.bias.roll(-1, 0))
    stage.regressor.weight.copy_(boxes.weight.unflatten(0, (-1, 4))[1:].mean(dim=0))
    stage.regressor.bias.copy_(boxes.bias.unflatten(0, (-1, 4))[1:].mean(dim=0))


@torch.no_grad()
def _copy_mask_head(head: MaskHead, roi: Any) -> None:
    """Let a mask head begin as the model's; of other classes, without its last layer."""
    theirs = [m for m in roi.mask_head.modules() if isinstance(m, nn.Conv2d)]
    for own, other in zip(head.convolutions, theirs, strict=True):
        own.load_state_dict(other.state_dict())
    head.upsample.load_state_dict(roi.mask_predictor.conv5_mask.state_dict())
    last = roi.mask_predictor.mask_fcn_logits
    if last.out_channels == head.predictor.out_channels + 1:
        head.predictor.weight.copy_(last.weight[1:])
        head.predictor.bias.copy_(last.bias[1:])  # type: ignore[union-attr]
