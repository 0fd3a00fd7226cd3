"""Faster and Mask R-CNN as cascades."""

import pytest
import torch
from torchvision.models.detection import FasterRCNN, MaskRCNN, fasterrcnn_mobilenet_v3_large_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from longtail.detection.torchvision_models import as_cascade, build_torchvision_cascade
from longtail.errors import CheckpointError, ConfigError
from longtail.frequency import CategoryGroups
from longtail.mec.model import make_multi_expert

from .conftest import scene

CLASSES = 3
GROUPS = CategoryGroups(("rare", "common", "frequent"), ((2,), (0,), (1,)))
ANCHORS = AnchorGenerator(tuple((s,) for s in (8, 16, 32, 64, 128)), ((0.5, 1.0, 2.0),) * 5)


def tiny(kind=FasterRCNN, **options):
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    heads = {"box_head": TwoMLPHead(256 * 49, 16), "box_predictor": FastRCNNPredictor(16, CLASSES + 1)}
    if kind is MaskRCNN:
        heads |= {"mask_head": MaskRCNNHeads(256, (8, 8), 1), "mask_predictor": MaskRCNNPredictor(8, 8, CLASSES + 1)}
    limits = {"rpn_post_nms_top_n_train": 60, "rpn_post_nms_top_n_test": 40, "box_batch_size_per_image": 32}
    return kind(backbone, rpn_anchor_generator=ANCHORS, **heads, **limits, **options)


@torch.no_grad()
def test_every_stage_begins_as_the_box_head() -> None:
    model = tiny().eval()
    for (
        parameter
    ) in model.roi_heads.box_predictor.bbox_pred.parameters():  # one box for all classes, so that they agree
        parameter.copy_(parameter.unflatten(0, (-1, 4))[:1].expand(CLASSES + 1, *[-1] * parameter.ndim).flatten(0, 1))
    detector = as_cascade(model, 3).eval()
    images = torch.stack([scene(128, 128, seed=s)[0] for s in (1, 2)])
    features = model.backbone(images)
    proposals, _ = model.rpn(ImageList(images, [(128, 128)] * 2), features)
    found, _ = detector.proposals.propose(images, [(128, 128)] * 2, list(features.values()))
    for own, other in zip(found, proposals, strict=True):
        torch.testing.assert_close(own, other)
    pooled = model.roi_heads.box_roi_pool(features, proposals, [(128, 128)] * 2)
    logits, boxes = model.roi_heads.box_predictor(model.roi_heads.box_head(pooled))
    for stage in detector.heads.stages:
        own_logits, own_boxes = stage(
            detector.heads.pool_boxes(detector.heads.embed(list(features.values())), proposals)
        )
        torch.testing.assert_close(own_logits, logits.roll(-1, 1))
        torch.testing.assert_close(own_boxes, boxes[:, :4])


def test_the_settings_are_the_model_s() -> None:
    detector = as_cascade(tiny(box_detections_per_img=7), 4, options={"proposals": {"kept_train": 30}})
    config = detector.config
    assert [s.iou for s in config.stages] == [0.5, 0.6, 0.7, 0.8] and config.samples == 32
    assert config.proposals.anchor_sizes == (8, 16, 32, 64, 128) and config.proposals.kept_train == 30
    assert config.proposals.kept_test == 40 and config.postprocess.max_detections == 7
    assert config.postprocess.score_threshold == 0.05 and not config.pooling_aligned


@pytest.mark.parametrize("kind", [FasterRCNN, MaskRCNN])
def test_it_becomes_multi_expert_and_learns(kind) -> None:
    detector = make_multi_expert(as_cascade(tiny(kind)), GROUPS)
    assert detector.has_masks == (kind is MaskRCNN)
    image, target = scene(96, 96, seed=1)
    losses = detector.losses([image], [target])
    sum(losses.values()).backward()
    assert {f"stage_{k}_class" for k in (1, 2, 3)} <= losses.keys()
    assert ("stage_3_mask" in losses) == detector.has_masks
    assert detector.backbone.body.body.conv1.weight.grad.abs().sum() > 0
    found = detector.eval().predict_readouts([image])
    assert next(iter(found)) == "mec" and all(d.masks is None or len(d.masks) == len(d) for d in found["mec"])


def test_other_classes_have_new_classifiers_and_the_old_boxes() -> None:
    model = tiny()
    detector = as_cascade(model, num_classes=5)
    stage = detector.heads.stages[0]
    assert stage.classifier.out_features == 6
    wanted = model.roi_heads.box_predictor.bbox_pred.weight.unflatten(0, (-1, 4))[1:].mean(0)
    assert torch.equal(stage.regressor.weight, wanted)


def test_refusals(tmp_path) -> None:
    with pytest.raises(ConfigError, match="has not one anchor size for each pyramid level"):
        as_cascade(fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None))
    with pytest.raises(ConfigError, match="Linear has no proposals"):
        as_cascade(torch.nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="2 IoU thresholds for 3 stages"):
        as_cascade(tiny(), 3, ious=(0.5, 0.6))
    with pytest.raises(ConfigError, match="no detector torchvision:fasterrcnn_resnet51_fpn\n  fix: did you mean"):
        build_torchvision_cascade("fasterrcnn_resnet51_fpn", 3)
    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"w.pth does not fit fasterrcnn_resnet50_fpn"):
        build_torchvision_cascade("fasterrcnn_resnet50_fpn", 3, weights=tmp_path / "w.pth")
