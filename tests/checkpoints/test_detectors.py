"""Checkpoints of torchvision, mmdetection and detectron2 in the stages of a cascade."""

import re

import pytest
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from longtail.checkpoints.translate import translate
from longtail.detection.build import build_detector
from longtail.detection.cascade_rcnn import CascadeDetector
from longtail.models.adopt import adopt
from longtail.transforms import IMAGENET_STD

CLASSES, CHANNELS = 4, 256


@pytest.fixture(scope="module")
def theirs() -> MaskRCNN:
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    model = MaskRCNN(backbone, num_classes=CLASSES + 1).eval()
    for module in model.modules():
        if hasattr(module, "running_mean"):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def cascade(**options) -> CascadeDetector:
    settings = {"backbone": {"name": "torchvision/resnet18", "norm": "frozen"}, **options}
    return build_detector(num_classes=CLASSES, **settings).eval()


def load(model: CascadeDetector, state):
    found = translate(state, model, "file")
    adopt(model, found.weights, "file")
    return found


@pytest.fixture(scope="module")
def ours(theirs) -> CascadeDetector:
    model = cascade()
    found = load(model, theirs.state_dict())
    assert found.family == "torchvision's detection"
    assert not found.unused
    assert not found.misfits
    return model


@torch.no_grad()
def test_pyramid_and_proposals_are_torchvisions(theirs, ours):
    image = torch.randn(1, 3, 96, 128)
    expected, levels = theirs.backbone(image), ours.backbone(image)
    for level, (own, other) in enumerate(zip(levels, expected.values(), strict=True)):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4, msg=str(level))
    for own, other in zip(ours.proposals.head(levels), theirs.rpn.head(list(expected.values())), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_heads_of_every_stage_are_torchvisions(theirs, ours, stage):
    pooled = torch.randn(3, CHANNELS, 7, 7)
    logits, deltas = ours.heads.stages[stage](pooled)
    expected, boxes = theirs.roi_heads.box_predictor(theirs.roi_heads.box_head(pooled))
    torch.testing.assert_close(logits, expected.roll(-1, 1), rtol=1e-4, atol=1e-5)  # its background is the first class
    agnostic = boxes.unflatten(1, (-1, 4))[:, 1:].mean(dim=1)
    stds = torch.tensor(ours.config.stages[stage].box_stds)
    torch.testing.assert_close(deltas * stds, agnostic * torch.tensor([0.1, 0.1, 0.2, 0.2]), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_masks_are_torchvisions(theirs, ours):
    pooled, labels = torch.randn(3, CHANNELS, 14, 14), torch.tensor([2, 0, 3])
    expected = theirs.roi_heads.mask_predictor(theirs.roi_heads.mask_head(pooled))
    for head in ours.heads.mask_heads:
        found = head.class_logits(head(pooled), labels)
        torch.testing.assert_close(found, expected[torch.arange(3), labels + 1], rtol=1e-4, atol=1e-5)


def test_other_classes_are_told_and_the_rest_is_loaded(theirs):
    model = build_detector(num_classes=7, backbone={"name": "torchvision/resnet18", "norm": "frozen"})
    found = translate(theirs.state_dict(), model, "file")
    assert [word.split()[0].rpartition(".")[0] for word in found.misfits[::2]] == [
        "roi_heads.box_predictor.cls_score",
        "roi_heads.mask_predictor.mask_fcn_logits",
    ]
    assert "heads.stages.2.regressor.weight" in found.weights  # boxes know no classes


# Public definitions: mmdet/models/{backbones/resnet,necks/fpn,dense_heads/rpn_head}.py, roi_heads/bbox_heads/
# convfc_bbox_head.py, roi_heads/mask_heads/fcn_mask_head.py; detectron2/modeling/backbone/{resnet,fpn}.py,
# proposal_generator/rpn.py, roi_heads/{box_head,fast_rcnn,mask_head}.py. Names of an R-50 cascade with masks.
RPN = {"conv": (256, 256, 3, 3), "cls": (3, 256, 1, 1), "reg": (12, 256, 1, 1)}
FC = {"0": (1024, 12544), "1": (1024, 1024), "cls": (CLASSES + 1, 1024)}


def with_bias(weights: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return weights | {name.replace("weight", "bias"): (shape[0],) for name, shape in weights.items()}


def resnet50(conv: str, norm: str, shortcut: tuple[str, str], block: str) -> dict[str, tuple[int, ...]]:
    """Convolutions and norms of the four stages."""
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for index in range(blocks):
            sizes = [(width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            layers = [(conv.format(i + 1), norm.format(i + 1), size) for i, size in enumerate(sizes)]
            if index == 0:
                layers.append((*shortcut, (4 * width, inputs, 1, 1)))
            for convolution, normed, size in layers:
                start = block.format(stage=stage, index=index)
                shapes[f"{start}.{convolution}.weight"] = size
                shapes |= {f"{start}.{normed}.{part}": (size[0],) for part in NORM}
            inputs = 4 * width
    return shapes


NORM = ("weight", "bias", "running_mean", "running_var")


def mmdetection(stages: int, fc_reg: int, masks: int) -> dict[str, tuple[int, ...]]:
    shapes = {"backbone.conv1.weight": (64, 3, 7, 7), **{f"backbone.bn1.{part}": (64,) for part in NORM}}
    downsample = ("downsample.0", "downsample.1")
    shapes |= resnet50("conv{}", "bn{}", downsample, "backbone.layer@{stage}.{index}")
    shapes = {re.sub(r"layer@(\d)", lambda m: f"layer{int(m[1]) + 1}", name): shape for name, shape in shapes.items()}
    weights = {f"neck.lateral_convs.{i}.conv.weight": (256, 256 * 2**i, 1, 1) for i in range(4)}
    weights |= {f"neck.fpn_convs.{i}.conv.weight": (256, 256, 3, 3) for i in range(4)}
    weights |= {f"rpn_head.rpn_{part}.weight": shape for part, shape in RPN.items()}
    for k in range(stages):
        box = f"roi_head.bbox_head.{k}." if stages > 1 else "roi_head.bbox_head."
        weights |= {f"{box}shared_fcs.{i}.weight": FC[str(i)] for i in range(2)}
        weights |= {f"{box}fc_cls.weight": FC["cls"], f"{box}fc_reg.weight": (fc_reg, 1024)}
    for k in range(masks):
        mask = f"roi_head.mask_head.{k}." if stages > 1 else "roi_head.mask_head."
        weights |= {f"{mask}convs.{i}.conv.weight": (256, 256, 3, 3) for i in range(4)}
        weights |= {f"{mask}upsample.weight": (256, 256, 2, 2), f"{mask}conv_logits.weight": (CLASSES, 256, 1, 1)}
    return shapes | with_bias(weights)


def detectron2(stages: int, bbox_pred: int) -> dict[str, tuple[int, ...]]:
    up = "backbone.bottom_up."
    shapes = {f"{up}stem.conv1.weight": (64, 3, 7, 7), **{f"{up}stem.conv1.norm.{part}": (64,) for part in NORM}}
    for name, shape in resnet50(
        "conv{}", "conv{}.norm", ("shortcut", "shortcut.norm"), up + "res@{stage}.{index}"
    ).items():
        shapes[re.sub(r"res@(\d)", lambda m: f"res{int(m[1]) + 2}", name)] = shape
    weights = {f"backbone.fpn_lateral{i + 2}.weight": (256, 256 * 2**i, 1, 1) for i in range(4)}
    weights |= {f"backbone.fpn_output{i + 2}.weight": (256, 256, 3, 3) for i in range(4)}
    names = {"conv": "conv", "cls": "objectness_logits", "reg": "anchor_deltas"}
    weights |= {f"proposal_generator.rpn_head.{names[part]}.weight": shape for part, shape in RPN.items()}
    for k in range(stages):
        number = f"{k}." if stages > 1 else ""
        weights |= {f"roi_heads.box_head.{number}fc{i + 1}.weight": FC[str(i)] for i in range(2)}
        weights |= {
            f"roi_heads.box_predictor.{number}cls_score.weight": FC["cls"],
            f"roi_heads.box_predictor.{number}bbox_pred.weight": (bbox_pred, 1024),
        }
    mask = "roi_heads.mask_head."
    weights |= {f"{mask}mask_fcn{i + 1}.weight": (256, 256, 3, 3) for i in range(4)}
    weights |= {f"{mask}deconv.weight": (256, 256, 2, 2), f"{mask}predictor.weight": (CLASSES, 256, 1, 1)}
    return shapes | with_bias(weights)


TABLES = {
    "mmdetection": mmdetection(1, 4 * CLASSES, 1),
    "mmdetection cascade": mmdetection(3, 4, 3),
    "detectron2": detectron2(1, 4 * CLASSES),
    "detectron2 cascade": detectron2(3, 4),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_tensor_of_a_table_has_its_place_and_every_place_a_tensor(name):
    state = {tensor: torch.rand(shape) for tensor, shape in TABLES[name].items()}
    dialect = name.split()[0]
    with torch.device("meta"):
        model = build_detector(num_classes=CLASSES, dialect=dialect, backbone="torchvision/resnet50")
    found = translate(state, model, "file")
    assert found.family == dialect
    assert not found.unused
    assert not found.misfits
    own = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert {k: tuple(v.shape) for k, v in found.weights.items()} == own
    untouched = [k for k, v in found.weights.items() if any(v is other for other in state.values())]
    changed = {k for k in own if k not in untouched and not k.endswith("num_batches_tracked")}
    expected = {"mmdetection": 6, "detectron2": 7, "mmdetection cascade": 6, "detectron2 cascade": 7}[name]
    assert len(changed) == expected, changed  # regressors, and the first convolution of detectron2


def test_the_first_convolution_of_detectron2_sees_what_it_saw():
    weight = torch.randn(64, 3, 7, 7)
    state = {name: torch.rand(shape) for name, shape in TABLES["detectron2"].items()}
    state["backbone.bottom_up.stem.conv1.weight"] = weight
    model = build_detector(num_classes=CLASSES, dialect="detectron2")
    found = translate(state, model, "file").weights["backbone.extractor.conv1.weight"]
    normalised = torch.randn(1, 3, 20, 20)  # RGB
    bgr = (normalised * 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1)).flip(1)  # bytes minus the mean
    expected = nn.functional.conv2d(bgr, weight, padding=3)
    torch.testing.assert_close(nn.functional.conv2d(normalised, found, padding=3), expected, rtol=1e-3, atol=1e-2)
