import numpy as np
import pytest
import torch
from torch import nn

from longtail.detection.second_head import SecondHead, two_level_sample
from longtail.detection.targets import Objects
from longtail.frequency import ClassFrequency
from longtail.models.classifier_phase import add_classifier_phase

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


def test_second_head_takes_over_and_stands_beside():
    shared, first = nn.Sequential(nn.Flatten(), nn.Linear(8, 5)), nn.Linear(5, 4)
    head = SecondHead(shared, nn.Linear(5, 4), whole=True, beside=True)
    head.begin(shared, first, reset=False)
    pooled = torch.randn(3, 2, 2, 2)
    logits = head(pooled, shared(pooled), first)
    assert logits.shape == (3, 8)
    torch.testing.assert_close(logits[:, :4], logits[:, 4:])
    # its layers are its own
    with torch.no_grad():
        shared[1].weight.zero_()
    assert not torch.equal(head(pooled, shared(pooled), first)[:, 4:], first(shared(pooled)))


def test_a_classifier_without_background_takes_the_rows_of_the_classes():
    first, second = nn.Linear(5, 4), nn.Linear(5, 3)  # focal's sigmoids know no background
    nn.init.constant_(second.bias, -4.6)
    head = SecondHead(nn.Identity(), second)
    head.begin(nn.Identity(), first, reset=False)
    assert torch.equal(second.weight, first.weight[:3])
    assert (second.bias == -4.6).all()
    fresh = nn.Linear(5, 3)
    before = fresh.weight.clone()
    SecondHead(nn.Identity(), fresh).begin(nn.Identity(), first, reset=True)
    assert torch.equal(fresh.weight, before)


def test_classifiers_of_other_shapes_begin_as_they_are():
    head = SecondHead(nn.Identity(), nn.Linear(5, 7))
    before = head.classifier.weight.clone()
    head.begin(nn.Identity(), nn.Linear(5, 4), reset=False)
    assert torch.equal(head.classifier.weight, before)


@pytest.mark.parametrize("tiny", [tiny_cascade, tiny_htc])
def test_the_classifier_phase_leaves_the_mask_heads_alone(tiny, batch, monkeypatch):
    detector = tiny()
    counts = np.array([5.0, 40.0, 900.0])
    add_classifier_phase(detector, ClassFrequency(("a", "b", "c"), images=counts, instances=counts))
    detector.start_phase("train")
    assert "stage_1_mask" in detector.losses(*batch)
    detector.start_phase("classifier")
    monkeypatch.setattr(detector.heads, "pool_masks", lambda *_: pytest.fail("the mask heads were run"))
    losses = detector.losses(*batch)
    assert set(losses) == {"stage_1_class", "stage_2_class", "stage_3_class"}
    sum(losses.values()).backward()
    assert {n.split(".second.")[0] for n, p in detector.named_parameters() if p.grad is not None} <= {
        f"heads.stages.{k}" for k in range(3)
    }
