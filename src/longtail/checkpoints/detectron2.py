"""detectron2: Faster, Mask and Cascade R-CNN on its ResNets, which read BGR bytes minus the mean."""

import re
from typing import Any

import torch
from torch import Tensor

from longtail.checkpoints.cascade import class_agnostic
from longtail.checkpoints.family import Family
from longtail.transforms import IMAGENET_STD

_STEM = "backbone.bottom_up.stem.conv1.weight"


def _adapt(value: Tensor, source: str, target: str, model: Any) -> Tensor:
    """Its first convolution reads x = 255 std z in the order BGR, z being what a network here reads: its mean is the same."""
    if source == _STEM and value.shape[1] == 3:
        return value.flip(1) * (255 * torch.tensor(IMAGENET_STD)).to(value).view(1, 3, 1, 1)
    if ".regressor." in target:
        return class_agnostic(value, target, model, several=bool(re.search(r"box_predictor\.\d", source)))
    return value


def _heads(own: str, stage: str, end: str) -> dict[str, str]:
    box = rf"roi_heads\.box_head\.{own}"
    return {
        rf"{box}fc1\.(.*)": rf"heads.stages.{stage}.shared.1.{end}",
        rf"{box}fc2\.(.*)": rf"heads.stages.{stage}.shared.3.{end}",
        rf"roi_heads\.box_predictor\.{own}cls_score\.(.*)": rf"heads.stages.{stage}.classifier.{end}",
        rf"roi_heads\.box_predictor\.{own}bbox_pred\.(.*)": rf"heads.stages.{stage}.regressor.{end}",
    }


def _backbone() -> dict[str, str]:
    stem, here = r"backbone\.bottom_up\.stem\.conv1", "backbone.extractor"
    rules = {rf"{stem}\.weight": rf"{here}.conv1.weight", rf"{stem}\.norm\.(.*)": rf"{here}.bn1.\1"}
    for stage in range(2, 6):
        block, layer = rf"backbone\.bottom_up\.res{stage}\.(\d+)\.", rf"{here}.layer{stage - 1}.\1"
        rules |= {
            rf"{block}conv(\d)\.weight": rf"{layer}.conv\2.weight",
            rf"{block}conv(\d)\.norm\.(.*)": rf"{layer}.bn\2.\3",
            rf"{block}shortcut\.weight": rf"{layer}.downsample.0.weight",
            rf"{block}shortcut\.norm\.(.*)": rf"{layer}.downsample.1.\2",
            rf"backbone\.fpn_lateral{stage}\.(.*)": rf"backbone.pyramid.inner_blocks.{stage - 2}.0.\1",
            rf"backbone\.fpn_output{stage}\.(.*)": rf"backbone.pyramid.layer_blocks.{stage - 2}.0.\1",
        }
    return rules


DETECTRON2 = Family(
    "detectron2",
    marks=("backbone.bottom_up.", "proposal_generator.", "roi_heads."),
    rules={
        **_backbone(),
        r"proposal_generator\.rpn_head\.conv\.(.*)": r"proposals.head.conv.0.0.\1",
        r"proposal_generator\.rpn_head\.objectness_logits\.(.*)": r"proposals.head.cls_logits.\1",
        r"proposal_generator\.rpn_head\.anchor_deltas\.(.*)": r"proposals.head.bbox_pred.\1",
        **_heads("", "{k}", r"\1"),
        **_heads(r"(\d)\.", r"\1", r"\2"),
        **{
            rf"roi_heads\.mask_head\.mask_fcn{i + 1}\.(.*)": rf"heads.mask_heads.{{k}}.convolutions.{i}.\1"
            for i in range(4)
        },
        r"roi_heads\.mask_head\.deconv\.(.*)": r"heads.mask_heads.{k}.upsample.\1",
        r"roi_heads\.mask_head\.predictor\.(.*)": r"heads.mask_heads.{k}.predictor.\1",
    },
    adapt=_adapt,
    ignored=r".*num_batches_tracked|pixel_(mean|std)|.*anchor_generator\..*",
)
