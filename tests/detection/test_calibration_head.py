import numpy as np
import pytest
import torch
from torch import nn

from longtail.detection.calibration_head import CalibrationHead, two_level_sample
from longtail.detection.targets import Objects
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.detection_methods import build_detection_method

from .conftest import tiny_cascade, tiny_htc


def objects(focus: int | None) -> Objects:
    nothing = torch.zeros(0, 4)
    return Objects(nothing, torch.zeros(0, dtype=torch.int64), nothing, focus=focus)


def test_two_level_sample_by_hand():
    background = 3
    labels = [torch.tensor([0, 1, 1, 3, 3, 3]), torch.tensor([2, 0, 3, 3])]
    chosen = two_level_sample(labels, [objects(1), objects(0)], background)
    every = torch.cat(labels)
    assert chosen[:3].tolist() == [1, 2, 7]  # class 1 of the first image, class 0 of the second
    assert len(chosen) == 6
    assert (every[chosen[3:]] == background).all()
    assert len(set(chosen.tolist())) == 6
    assert two_level_sample(labels, [objects(None), objects(None)], background) is None
    # an image whose class was not among its proposals teaches nothing
    assert two_level_sample(labels, [objects(2), objects(1)], background).tolist() == []


def test_a_calibration_head_has_layers_of_its_own():
    shared, first = nn.Sequential(nn.Flatten(), nn.Linear(8, 5)), nn.Linear(5, 4)
    head = CalibrationHead(shared, nn.Linear(5, 4))
    head.classifier.load_state_dict(first.state_dict())
    pooled = torch.randn(3, 2, 2, 2)
    torch.testing.assert_close(head(pooled), first(shared(pooled)))
    with torch.no_grad():
        shared[1].weight.zero_()
    assert not torch.equal(head(pooled), first(shared(pooled)))


@pytest.mark.parametrize("tiny", [tiny_cascade, tiny_htc])
def test_a_classifier_trained_alone_leaves_all_else_as_it_is(tiny, batch, monkeypatch):
    detector = tiny()
    assert "stage_1_mask" in detector.losses(*batch)
    detector.train_classifier_alone()
    assert detector.phases == ("classifier",) and not detector.train().backbone.training
    monkeypatch.setattr(detector.heads, "pool_masks", lambda *_: pytest.fail("the mask heads were run"))
    losses = detector.losses(*batch)
    assert set(losses) == {"stage_1_class", "stage_2_class", "stage_3_class"}
    sum(losses.values()).backward()
    trained = {n.rsplit(".", 1)[0] for n, p in detector.named_parameters() if p.grad is not None}
    assert trained == {f"heads.stages.{k}.classifier" for k in range(3)}


def test_both_classifiers_are_read_and_the_second_is_trained(batch):
    counts = np.array([5.0, 40.0, 900.0])
    groups = CategoryGroups.by_count(counts)
    torch.manual_seed(0)
    detector = build_detection_method(
        "calibration_head",
        groups=groups,
        frequency=ClassFrequency(("a", "b", "c"), images=counts, instances=counts),
        detector={
            "name": "cascade",
            "backbone": {"name": "torchvision/mobilenet_v2", "channels": 8, "frozen_stages": 0},
            "head_channels": 16,
            "mask_channels": 8,
            "mask_convolutions": 1,
        },
        threshold=50,
    )
    with torch.no_grad():
        for stage in detector.heads.box_stages:
            stage.calibration.classifier.bias.add_(torch.arange(4.0))
    outputs = detector.eval().stage_outputs(batch[0])[0]
    first, second = outputs.logits[0].split(4, dim=1)
    assert not torch.equal(first, second)
    read = detector.readouts()["stage_1"](outputs)
    expected = torch.where(torch.tensor([True, True, False, False]), second.softmax(1), first.softmax(1))
    torch.testing.assert_close(read, expected / expected.sum(1, keepdim=True))
    sum(detector.train().losses(*batch).values()).backward()
    trained = {n.split(".")[4] for n, p in detector.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained == {"shared", "classifier"}
    assert all(".calibration." in n for n, p in detector.named_parameters() if p.grad is not None)
