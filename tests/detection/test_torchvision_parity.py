"""A one-stage cascade is torchvision's Faster R-CNN: the same losses and detections on the same weights."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from longtail.detection.config import PostprocessConfig, ProposalConfig, StageConfig

from .conftest import NUM_CLASSES, scene, tiny_cascade

SIZES = (8, 16, 32, 64, 128)


class _Levels(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.out_channels = backbone, backbone.channels

    def forward(self, image):
        return OrderedDict((str(k), v) for k, v in enumerate(self.backbone(image)))


@pytest.fixture
def pair():
    stage = StageConfig(0.5, (0.1, 0.1, 0.2, 0.2))
    ours = tiny_cascade(
        stages=(stage,),
        box_beta=1 / 9,
        pooling_samples=2,
        pooling_aligned=False,
        masks="none",
        samples=64,
        proposals=ProposalConfig(anchor_sizes=SIZES, candidates_train=300, candidates_test=200, kept_test=100),
        postprocess=PostprocessConfig(score_threshold=0.05, max_detections=100),
    )
    theirs = FasterRCNN(
        _Levels(ours.backbone),
        NUM_CLASSES + 1,
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in SIZES), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=300,
        rpn_post_nms_top_n_train=2000,
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_test=100,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2),
        box_batch_size_per_image=64,
    )
    roi, stage = theirs.roi_heads, ours.heads.stages[0]
    roi.box_head.fc6 = nn.Linear(16 * 49, 32)
    roi.box_head.fc7 = nn.Linear(32, 32)
    roi.box_predictor.cls_score = nn.Linear(32, NUM_CLASSES + 1)
    roi.box_predictor.bbox_pred = nn.Linear(32, 4 * (NUM_CLASSES + 1))
    # large weights, so that there are confident detections and real box changes
    nn.init.normal_(stage.classifier.weight, std=1.0)
    nn.init.normal_(stage.regressor.weight, std=0.5)
    background_first = [NUM_CLASSES, *range(NUM_CLASSES)]
    with torch.no_grad():
        roi.box_head.fc6.load_state_dict(stage.shared[1].state_dict())
        roi.box_head.fc7.load_state_dict(stage.shared[3].state_dict())
        roi.box_predictor.cls_score.weight.copy_(stage.classifier.weight[background_first])
        roi.box_predictor.cls_score.bias.copy_(stage.classifier.bias[background_first])
        roi.box_predictor.bbox_pred.weight.copy_(stage.regressor.weight.repeat(NUM_CLASSES + 1, 1))
        roi.box_predictor.bbox_pred.bias.copy_(stage.regressor.bias.repeat(NUM_CLASSES + 1))
    theirs.rpn.head.load_state_dict(ours.proposals.head.state_dict())
    return ours, theirs


def _run_theirs(theirs, images, targets=None):
    batch = ImageList(torch.stack(images), [tuple(i.shape[-2:]) for i in images])
    features = theirs.backbone(batch.tensors)
    proposals, first = theirs.rpn(batch, features, targets)
    detections, second = theirs.roi_heads(features, proposals, batch.image_sizes, targets)
    return detections, {**first, **second}


def test_losses_and_gradients_equal(pair):
    ours, theirs = pair
    samples = [scene(128, 128, seed=s) for s in (1, 2)]
    images, targets = [s[0] for s in samples], [s[1] for s in samples]
    torch.manual_seed(3)
    mine = ours.losses(images, targets)
    shifted = [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in targets]
    torch.manual_seed(3)
    reference = _run_theirs(theirs, images, shifted)[1]
    pairs = {
        "proposal_objectness": "loss_objectness",
        "proposal_box": "loss_rpn_box_reg",
        "stage_1_class": "loss_classifier",
        "stage_1_box": "loss_box_reg",
    }
    assert set(mine) == set(pairs)
    for name, other in pairs.items():
        torch.testing.assert_close(mine[name], reference[other], rtol=1e-5, atol=1e-6)
    assert mine["stage_1_box"] > 0.01
    parameters = list(ours.backbone.parameters())
    mine = torch.autograd.grad(sum(mine.values()), parameters)
    reference = torch.autograd.grad(sum(reference.values()), parameters)
    for a, b in zip(mine, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_detections_equal(pair):
    ours, theirs = pair
    ours.eval()
    theirs.eval()
    images = [scene(128, 128, seed=s)[0] for s in (1, 2)]
    with torch.no_grad():
        reference, _ = _run_theirs(theirs, images)
    for mine, other in zip(ours.predict(images), reference, strict=True):
        assert len(mine) == len(other["scores"]) > 5
        torch.testing.assert_close(mine.scores, other["scores"])
        torch.testing.assert_close(mine.boxes, other["boxes"], rtol=1e-4, atol=1e-3)
        assert torch.equal(mine.labels, other["labels"] - 1)
