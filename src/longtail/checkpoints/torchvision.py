"""torchvision: its segmentation models, and Faster and Mask R-CNN for the stages of a cascade."""

from typing import Any

import torch
from torch import Tensor

from longtail.checkpoints.cascade import class_agnostic
from longtail.checkpoints.family import Family


def _joint_lraspp(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The two classifiers of LR-ASPP as one, on their maps side by side."""
    state = dict(state)
    low, high = "classifier.low_classifier.", "classifier.high_classifier."
    if f"{low}weight" in state:
        state["joint.weight"] = torch.cat([state.pop(f"{low}weight"), state.pop(f"{high}weight")], dim=1)
        state["joint.bias"] = state.pop(f"{low}bias") + state.pop(f"{high}bias")
    return state


TORCHVISION = Family(
    "torchvision",
    marks=("backbone.", "classifier."),
    rules={
        r"backbone\.(.*)": r"encoder.backbone.\1",
        r"joint\.(.*)": r"expert.head.\1",
        r"classifier\.((?:cbr|scale)\..*)": r"expert.decoder.\1",
        r"classifier\.(\d+\..*)": r"expert.decoder.module.\1",
        r"classifier\.4\.(.*)": r"expert.head.\1",
        r"aux_classifier\.(.*)": r"auxiliary_head.module.\1",
    },
    join=_joint_lraspp,
)


def _adapt(value: Tensor, source: str, target: str, model: Any) -> Tensor:
    """The background is the first class there, and the last one here; masks have none here."""
    if ".classifier." in target:
        return value.roll(-1, 0)
    if ".predictor." in target:
        return value[1:]
    if ".regressor." in target:
        return class_agnostic(value[4:], target, model, several=False)
    return value


TORCHVISION_DETECTION = Family(
    "torchvision's detection",
    marks=("backbone.", "rpn.", "roi_heads."),
    rules={
        r"backbone\.body\.(.*)": (r"backbone.extractor.\1", r"backbone.extractor.features.\1"),
        r"backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?(weight|bias)": r"backbone.pyramid.inner_blocks.\1.0.\2",
        r"backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?(weight|bias)": r"backbone.pyramid.layer_blocks.\1.0.\2",
        r"rpn\.head\.conv\.(?:0\.0\.)?(weight|bias)": r"proposals.head.conv.0.0.\1",
        r"rpn\.head\.((?:cls_logits|bbox_pred)\..*)": r"proposals.head.\1",
        r"roi_heads\.box_head\.fc6\.(.*)": r"heads.stages.{k}.shared.1.\1",
        r"roi_heads\.box_head\.fc7\.(.*)": r"heads.stages.{k}.shared.3.\1",
        r"roi_heads\.box_predictor\.cls_score\.(.*)": r"heads.stages.{k}.classifier.\1",
        r"roi_heads\.box_predictor\.bbox_pred\.(.*)": r"heads.stages.{k}.regressor.\1",
        r"roi_heads\.mask_head\.(\d)\.0\.(.*)": r"heads.mask_heads.{k}.convolutions.\1.\2",
        **{
            rf"roi_heads\.mask_head\.mask_fcn{i + 1}\.(.*)": rf"heads.mask_heads.{{k}}.convolutions.{i}.\1"
            for i in range(4)
        },
        r"roi_heads\.mask_predictor\.conv5_mask\.(.*)": r"heads.mask_heads.{k}.upsample.\1",
        r"roi_heads\.mask_predictor\.mask_fcn_logits\.(.*)": r"heads.mask_heads.{k}.predictor.\1",
    },
    adapt=_adapt,
)
