"""What a cascade learns from and predicts, and every difference of the two dialects."""

from dataclasses import replace

import pytest
import torch
from torchvision.ops import box_iou

from longtail.detection import cascade as cascade_module
from longtail.detection.cascade import Pyramid, scale_gradient
from longtail.detection.config import CascadeConfig, PostprocessConfig, stages
from longtail.detection.targets import Objects, Samples
from longtail.errors import ConfigError, DataError

from .conftest import NUM_CLASSES, scene, tiny_cascade, tiny_config

STAGE_LOSSES = {f"stage_{k}_{part}" for k in (1, 2, 3) for part in ("class", "box", "mask")}
PROPOSAL_LOSSES = {"proposal_objectness", "proposal_box"}


def run(detector, batch, seed=0):
    torch.manual_seed(seed)
    return detector.losses(*batch)


def test_presets_differ_where_the_dialects_do():
    theirs, others = CascadeConfig.mmdetection(5), CascadeConfig.detectron2(5)
    different = {f for f in CascadeConfig.__dataclass_fields__ if getattr(theirs, f) != getattr(others, f)}
    assert different == {"stages", "resample", "box_beta", "gradient_scale", "average", "masks"}
    assert [s.weight for s in theirs.stages] == [1, 0.5, 0.25]
    assert [s.weight for s in others.stages] == [1, 1, 1]
    assert [s.iou for s in theirs.stages] == [s.iou for s in others.stages] == [0.5, 0.6, 0.7]
    torch.testing.assert_close(theirs.stages[2].box_stds, (0.1 / 3, 0.1 / 3, 0.2 / 3, 0.2 / 3))


def test_every_loss_is_there_and_trains(batch):
    detector = tiny_cascade()
    losses = run(detector, batch)
    assert set(losses) == STAGE_LOSSES | PROPOSAL_LOSSES
    sum(losses.values()).backward()
    assert [n for n, p in detector.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in detector.parameters())


@pytest.mark.parametrize("ious", [(0.5,), (0.5, 0.6, 0.7, 0.8)])
def test_any_number_of_stages(batch, ious):
    detector = tiny_cascade(stages=stages(ious))
    assert len([n for n in run(detector, batch) if n.endswith("class")]) == len(ious)
    detector.eval()
    outputs = detector.stage_outputs(batch[0])
    assert outputs[0].logits.shape[0] == len(ious)


def test_stage_weights_weigh_all_losses_of_a_stage(batch):
    losses = run(tiny_cascade(), batch)
    plain = run(tiny_cascade(stages=stages(weights=(1.0, 1.0, 1.0))), batch)
    for name in STAGE_LOSSES:
        weight = {"1": 1.0, "2": 0.5, "3": 0.25}[name[6]]
        torch.testing.assert_close(losses[name], weight * plain[name])


def test_dialect_resampling(batch, monkeypatch):
    """MMDetection draws three samples; Detectron2 draws one and refreshes its labels."""
    calls = []
    for name in ("sample_stage", "relabel_stage"):
        real = getattr(cascade_module, name)
        monkeypatch.setattr(cascade_module, name, lambda *a, _n=name, _r=real: calls.append((_n, a[3])) or _r(*a))
    run(tiny_cascade(), batch)
    assert calls == [("sample_stage", 0), ("sample_stage", 1), ("sample_stage", 2)]
    calls.clear()
    run(tiny_cascade("detectron2"), batch)
    assert calls == [("sample_stage", 0), ("relabel_stage", 1), ("relabel_stage", 2)]


def test_dialect_added_objects_are_left_out_only_where_they_are_added_anew():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 20.0, 20.0]])
    samples = Samples([boxes], [torch.tensor([0, 3])], [torch.zeros(2).long()], [torch.tensor([True, False])])
    kept = [
        tiny_cascade(dialect).heads.refine(0, samples, torch.zeros(2, 4), [(64, 64)])[0]
        for dialect in ("mmdetection", "detectron2")
    ]
    assert [len(k) for k in kept] == [1, 2]


def test_refined_boxes_are_decoded_clipped_detached_and_never_empty():
    heads = tiny_cascade("detectron2").heads
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    samples = Samples([boxes], [torch.tensor([0, 3])], [torch.zeros(2).long()], [torch.zeros(2).bool()])
    # one box is moved right by one width, the other wholly out of the image
    deltas = torch.tensor([[10.0, 0, 0, 0], [100.0, 0, 0, 0]], requires_grad=True)
    refined = heads.refine(0, samples, deltas, [(64, 15)])[0]
    assert refined.tolist() == [[10.0, 0.0, 15.0, 10.0]] and not refined.requires_grad


def test_dialect_gradient_into_the_features():
    x = torch.randn(3, requires_grad=True)
    scaled = scale_gradient(x, 1 / 3)
    assert torch.equal(scaled, x)
    scaled.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((3,), 1 / 3))


def test_dialect_gradient_reaches_the_heads_whole(batch):
    gradients = []
    for factor in (1.0, 1 / 3):
        detector = tiny_cascade(masks="none", gradient_scale=factor)
        losses = run(detector, batch)
        sum(v for k, v in losses.items() if k.startswith("stage")).backward()
        gradients.append(
            [detector.heads.stages[0].shared[1].weight.grad, detector.backbone.pyramid.layer_blocks[0][0].weight.grad]
        )
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1] / 3, gradients[1][1])


def test_dialect_box_loss(batch):
    values = [run(tiny_cascade(box_beta=beta), batch)["stage_1_box"] for beta in (1.0, 0.0)]
    assert values[1] > values[0] > 0  # |x| > its smoothed form


def test_dialect_averages():
    logits = torch.randn(3, 7, NUM_CLASSES + 1) * 3
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0]]).repeat(7, 1)
    outputs = cascade_module.StageOutputs(logits, boxes, (64, 64))
    found = {d: tiny_cascade(d).readouts()["baseline"](outputs) for d in ("mmdetection", "detectron2")}
    torch.testing.assert_close(found["mmdetection"], logits.mean(0).softmax(1))
    torch.testing.assert_close(found["detectron2"], logits.softmax(2).mean(0))


def test_dialect_masks(batch):
    """MMDetection has a mask head a stage; Detectron2 one, trained on the first stage's sample with weight 1."""
    assert "stage_2_mask" in run(tiny_cascade(), batch)
    single = tiny_cascade("detectron2")
    losses = run(single, batch)
    assert "stage_1_mask" in losses and "stage_2_mask" not in losses and len(single.heads.mask_heads) == 1
    none = tiny_cascade(masks="none")
    assert not any("mask" in name for name in run(none, batch)) and not none.has_masks
    none.eval()
    assert none.predict(batch[0])[0].masks is None


def test_later_stages_need_more_overlap():
    """A proposal of IoU 0.65 is foreground in stages 1 and 2 and background in stage 3."""
    one = Objects(torch.tensor([[0.0, 0.0, 20.0, 20.0]]), torch.tensor([1]), torch.zeros(0, 4))
    proposal = torch.tensor([[0.0, 0.0, 20.0, 13.0]])
    torch.testing.assert_close(box_iou(proposal, one.boxes), torch.tensor([[0.65]]))
    config = tiny_config("detectron2")
    labels = [cascade_module.relabel_stage([proposal], [one], config, k).labels[0].item() for k in range(3)]
    assert labels == [1, 1, 3]


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_mask_probabilities_of_boxes_found_as_several_classes(chunk):
    """They depend neither on chunks nor on the sharing of features, and come in the order asked for."""
    heads = tiny_cascade(postprocess=PostprocessConfig(mask_chunk=chunk)).eval().heads
    assert heads.config.postprocess.mask_chunk == chunk
    pyramid = Pyramid([torch.randn(2, 16, 96 // s, 96 // s) for s in (4, 8, 16, 32, 64)])
    corner = torch.rand(16, 2) * 40
    boxes = torch.cat([corner, corner + 5 + torch.rand(16, 2) * 40], dim=1)
    boxes[[2, 5, 8]] = boxes[0].clone()
    parts, labels = [boxes[:9], boxes[9:]], [torch.tensor([2, 0, 1, 2, 1, 0, 0, 1, 2]), torch.randint(0, 3, (7,))]
    found = heads.mask_probabilities(pyramid, parts, labels)
    logits = heads.mask_logits(pyramid, parts, torch.cat(labels), torch.arange(16))
    reference = torch.stack([o.sigmoid() for o in logits]).mean(0)
    torch.testing.assert_close(torch.cat(found), reference)
    assert not torch.allclose(found[0][0], found[0][2]) and torch.allclose(found[0][0], found[0][8])


def test_features_of_a_box_are_computed_once(monkeypatch):
    heads = tiny_cascade().eval().heads
    pooled = []
    pool = heads.pool_masks
    monkeypatch.setattr(heads, "pool_masks", lambda p, b: pooled.append([len(x) for x in b]) or pool(p, b))
    pyramid = Pyramid([torch.randn(1, 16, 96 // s, 96 // s) for s in (4, 8, 16, 32, 64)])
    boxes = torch.tensor([[3.0, 3.0, 60.0, 70.0], [1.0, 1.0, 9.0, 9.0]])[[0, 1, 0, 0]]
    maps = heads.mask_probabilities(pyramid, [boxes], [torch.tensor([0, 0, 1, 2])])[0]
    assert pooled == [[2]] and len(maps) == 4


def test_objects_without_masks_are_refused(batch):
    images, targets = batch
    bare = [{k: v for k, v in t.items() if k != "masks"} for t in targets]
    with pytest.raises(DataError, match="no masks"):
        tiny_cascade().losses(images, bare)
    tiny_cascade(masks="none").losses(images, bare)


@pytest.mark.parametrize("change", [{"stages": ()}, {"num_classes": 0}, {"samples": 0}, {"positive_fraction": 0.0}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(ConfigError):
        replace(tiny_config(), **change)
    with pytest.raises(ConfigError):
        stages((0.5, 0.6), (1.0,))


def test_a_scene_has_what_it_says():
    image, target = scene()
    assert image.shape == (3, 96, 96) and len(target["boxes"]) == 3
