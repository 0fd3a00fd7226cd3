"""mmdetection: Faster, Mask and Cascade R-CNN and HTC on ResNets of the `pytorch` style."""

from typing import Any

from torch import Tensor

from longtail.checkpoints.cascade import class_agnostic
from longtail.checkpoints.family import Family


def _adapt(value: Tensor, source: str, target: str, model: Any) -> Tensor:
    if ".regressor." in target:
        return class_agnostic(value, target, model, several=not source.startswith("roi_head.bbox_head.fc_reg"))
    return value


def _heads(own: str, stage: str) -> dict[str, str]:
    """Names of the heads, all of one stage (``own`` is its number in a name), for stage ``stage`` here."""
    box, mask = rf"roi_head\.bbox_head\.{own}", rf"roi_head\.mask_head\.{own}"
    group = 1 if own else 0  # a group of the expression comes before those of the name's end
    end = rf"\{group + 1}"
    return {
        rf"{box}shared_fcs\.0\.(.*)": rf"heads.stages.{stage}.shared.1.{end}",
        rf"{box}shared_fcs\.1\.(.*)": rf"heads.stages.{stage}.shared.3.{end}",
        rf"{box}fc_cls\.(.*)": rf"heads.stages.{stage}.classifier.{end}",
        rf"{box}fc_reg\.(.*)": rf"heads.stages.{stage}.regressor.{end}",
        rf"{mask}convs\.(\d)\.conv\.(.*)": rf"heads.mask_heads.{stage}.convolutions.{end}.\{group + 2}",
        rf"{mask}upsample\.(.*)": rf"heads.mask_heads.{stage}.upsample.{end}",
        rf"{mask}conv_logits\.(.*)": rf"heads.mask_heads.{stage}.predictor.{end}",
        rf"{mask}conv_res\.conv\.(.*)": rf"heads.mask_heads.{stage}.from_previous.{end}",
    }


MMDETECTION = Family(
    "mmdetection",
    marks=("backbone.", "neck.", "rpn_head.", "roi_head."),
    rules={
        r"backbone\.(.*)": r"backbone.extractor.\1",
        r"neck\.lateral_convs\.(\d)\.conv\.(.*)": r"backbone.pyramid.inner_blocks.\1.0.\2",
        r"neck\.fpn_convs\.(\d)\.conv\.(.*)": r"backbone.pyramid.layer_blocks.\1.0.\2",
        r"rpn_head\.rpn_conv\.(.*)": r"proposals.head.conv.0.0.\1",
        r"rpn_head\.rpn_cls\.(.*)": r"proposals.head.cls_logits.\1",
        r"rpn_head\.rpn_reg\.(.*)": r"proposals.head.bbox_pred.\1",
        **_heads("", "{k}"),
        **_heads(r"(\d)\.", r"\1"),
    },
    adapt=_adapt,
)
