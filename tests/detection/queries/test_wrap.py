"""What ``wrap_detector`` refuses, and what is particular to a family."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip("scipy")
pytest.importorskip("transformers")

from longtail.detection.postprocess import read_stages
from longtail.detection.queries import wrap_detector
from longtail.detection.queries.mask_families import crop_masks, mask_boxes, mask_quality
from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.mec.model import make_multi_expert
from support.masks import decode_mask
from support.tiny_queries import CONFIGS, LAYERS, tiny_batch, tiny_model

GROUPS = CategoryGroups(("rare", "common", "frequent"), ((2,), (0, 3), (1, 4)))


def test_what_is_lacking_is_named() -> None:
    with pytest.raises(ConfigError, match="Linear is no detector that longtail can wrap"):
        wrap_detector(nn.Linear(1, 1))
    model = tiny_model("detr")
    model.config.auxiliary_loss = False
    with pytest.raises(ConfigError, match=r"no losses between its layers.*\n.*auxiliary_loss = True"):
        wrap_detector(model)
    with pytest.raises(ConfigError, match=r"RTDetrModel has no classifiers.*\n.*give a RTDetrForObjectDetection"):
        wrap_detector(tiny_model("rt_detr").model)
    from transformers import DFineForObjectDetection

    config = CONFIGS["d_fine"]()
    config.eval_idx = 0
    with pytest.raises(ConfigError, match="predicts with layer 0 of 3"):
        wrap_detector(DFineForObjectDetection(config))


@pytest.mark.parametrize("name", ["detr", "conditional_detr", "deformable_detr", "mask2former", "maskformer"])
def test_separate_classifiers_change_no_output(name: str) -> None:
    images, targets = tiny_batch(masks=True)
    shared = wrap_detector(tiny_model(name)).eval().stage_outputs(images)
    detector = wrap_detector(tiny_model(name), separate_classifiers=True).eval()
    for _ in range(2):
        for a, b in zip(shared, detector.stage_outputs(images), strict=True):
            torch.testing.assert_close(a.logits, b.logits)
            torch.testing.assert_close(a.boxes, b.boxes)
    sum(make_multi_expert(detector, GROUPS).train().losses(images, targets).values()).backward()
    own = [p for n, p in detector.named_parameters() if "class" in n and p.shape[:1] in ((5,), (6,)) and p.ndim == 2]
    assert len(own) == LAYERS and len({p.grad.sum().item() for p in own}) == LAYERS  # each learns from its own layer


def test_detr_gives_each_query_its_best_class_alone() -> None:
    images, _ = tiny_batch()
    detector = wrap_detector(tiny_model("detr")).eval()
    found, outputs = detector.predict(images), detector.stage_outputs(images)
    for one, stages in zip(found, outputs, strict=True):
        best = stages.logits[-1].softmax(1)[:, :-1].max(1)
        order = best.values.argsort(descending=True, stable=True)
        assert torch.allclose(one.scores, best.values[order][: len(one)]) and len(one) == len(order)


def test_the_library_s_own_reading_is_the_baseline() -> None:
    images, _ = tiny_batch()
    images = [images[2]] * 2  # of one size, so that nothing is padded
    detector = wrap_detector(tiny_model("deformable_detr")).eval()
    with torch.no_grad():
        outputs = detector.model(torch.stack(images))
    from transformers.models.deformable_detr.image_processing_pil_deformable_detr import DeformableDetrImageProcessorPil

    theirs = DeformableDetrImageProcessorPil().post_process_object_detection(outputs, 0.0, [(64, 64)] * 2, top_k=20)
    detector.set_postprocess(type(detector.postprocess)(0.0, 1.0, 20, min_size=0.0))
    for own, other in zip(detector.predict(images), theirs, strict=True):
        torch.testing.assert_close(own.scores, other["scores"])
        torch.testing.assert_close(own.boxes, other["boxes"].clamp(0, 64))
        assert torch.equal(own.labels, other["labels"])


def test_boxes_of_masks() -> None:
    inside = torch.zeros(2, 4, 6, dtype=torch.bool)
    inside[0, 1:3, 2:5] = True
    assert mask_boxes(inside, (2.0, 4.0)).tolist() == [[8, 2, 20, 6], [0, 0, 0, 0]]


def test_masks_without_the_padding() -> None:
    assert crop_masks(torch.zeros(1, 8, 8), (17, 32), (32, 32)).shape == (1, 5, 8)


def test_quality_is_the_mean_probability_inside() -> None:
    logits = torch.tensor([[[2.0, -3.0], [1.0, -1.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    wanted = torch.tensor([2.0, 1.0]).sigmoid().mean()
    assert torch.allclose(mask_quality(logits), torch.tensor([wanted, 0.0]), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("image_size", [None, (64, 96)])
def test_masks_lie_where_the_network_sees_them(image_size) -> None:
    detector = wrap_detector(tiny_model("mask2former"), image_size=image_size).eval()
    image = torch.randn(3, 33, 70, generator=torch.Generator().manual_seed(0))
    (found,) = detector.predict([image], original_sizes=[(66, 140)])
    (outputs,), maps = detector.run_stages(*detector.input_of(image[None]), [(33, 70)])
    rows = read_stages(outputs, detector.readouts()["baseline"], detector.postprocess).rows
    # the stored image is twice as large; without image_size the network reads it padded to 64 x 96
    grid = F.interpolate(maps, (66, 140) if image_size else (128, 192), mode="bilinear")[0, rows, :66, :140]
    masks = torch.stack([torch.from_numpy(decode_mask(mask)).bool() for mask in found.masks])
    assert (masks == (grid >= 0)).float().mean() > 0.999
    assert 0.1 < masks.float().mean() < 0.9


def test_masks_are_wanted_where_they_are_learned() -> None:
    images, targets = tiny_batch()
    with pytest.raises(ConfigError, match="learns from masks, but the objects have boxes alone"):
        wrap_detector(tiny_model("mask2former")).train().losses(images, targets)


def test_recorded_stages_of_masks_keep_their_quality(tmp_path) -> None:
    from longtail.detection.recording import StageRecorder, rescore

    images, _ = tiny_batch()
    detector = make_multi_expert(wrap_detector(tiny_model("mask2former")), GROUPS).eval()
    with StageRecorder(tmp_path / "stages") as recorder:
        recorder.add([1, 2, 3], detector.stage_outputs(images), [tuple(i.shape[-2:]) for i in images])
    wanted = detector.predict(images)
    found = rescore(tmp_path / "stages", {"mec": detector.readouts()["mec"]}, detector.postprocess)
    for one, (_, scored) in zip(wanted, found, strict=True):
        assert torch.equal(one.scores, scored["mec"].scores) and torch.equal(one.boxes, scored["mec"].boxes)
