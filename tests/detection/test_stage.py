import pytest
import torch
import torch.nn.functional as F

from longtail.boxes import BoxCoder
from longtail.classifiers.cosine import CosineClassifier
from longtail.detection.stage import BoxStage, LinearClassifier, StageLosses, box_loss, class_loss
from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss


class Objectness(ClassificationLoss):
    """Like seesaw: class logits among the foreground, and two more for object or background."""

    @property
    def num_logits(self) -> int:
        return self.num_classes + 1

    def forward(self, logits, target):
        return -self.probabilities(logits).gather(1, target[:, None]).log().mean()

    def probabilities(self, logits):
        classes, objectness = logits[:, :-2].softmax(1), logits[:, -2:].softmax(1)
        return torch.cat([classes * objectness[:, :1], objectness[:, 1:]], dim=1)


def test_linear_starts_small():
    classifier = LinearClassifier(1000, 50)
    assert 0.008 < classifier.weight.std() < 0.012 and not classifier.bias.any()


def test_stage_shapes_with_and_without_proposals():
    stage = BoxStage(4 * 49, 16, 7, CosineClassifier)
    for count in (3, 0):
        logits, deltas = stage(torch.randn(count, 4, 7, 7))
        assert logits.shape == (count, 7) and deltas.shape == (count, 4)
        (logits.sum() + deltas.sum()).backward()


def test_box_loss_by_hand():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0]])
    objects = torch.tensor([[1.0, 0.0, 11.0, 10.0], [9.0, 9.0, 9.5, 9.5]])
    deltas = torch.zeros(2, 4)
    # dx = 0.1 / 0.1 = 1; smooth L1 (beta 1) 1/2, L1 1; divided by both proposals
    found = [box_loss(deltas, boxes, objects, torch.tensor([0]), BoxCoder(), beta) for beta in (1.0, 0.0)]
    torch.testing.assert_close(torch.stack(found), torch.tensor([0.25, 0.5]))


def test_box_loss_without_foreground_is_zero_and_connected():
    deltas = torch.randn(3, 4, requires_grad=True)
    loss = box_loss(deltas, torch.rand(3, 4), torch.rand(3, 4), torch.zeros(0, dtype=torch.int64), BoxCoder(), 1.0)
    loss.backward()
    assert loss == 0 and not deltas.grad.any()
    nothing = torch.zeros(0, 4, requires_grad=True)
    assert box_loss(nothing, nothing, nothing, torch.zeros(0, dtype=torch.int64), BoxCoder(), 1.0) == 0


def test_class_loss_of_nothing_is_zero():
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = class_loss(F.cross_entropy, logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss == 0


def test_losses_are_copied_so_that_stages_count_apart():
    losses = StageLosses(Objectness(4), 3, 3)
    assert len({id(losses.loss(k)) for k in range(3)}) == 3
    assert losses.num_logits == 5


def test_own_callables_are_taken():
    losses = StageLosses([F.cross_entropy, lambda o, y: o.sum()], 2, 3)
    logits = torch.randn(2, 4)
    assert losses.num_logits == 4
    torch.testing.assert_close(losses.probabilities(1, logits), logits.softmax(1))


@pytest.mark.parametrize(
    "losses, message",
    [
        ([F.cross_entropy], "1 losses for 2 stages"),
        (Objectness(7), "is for 7 classes, the stage has 4"),
        ([F.cross_entropy, Objectness(4)], r"need \[4, 5\] logits"),
    ],
)
def test_misfits_are_refused(losses, message):
    with pytest.raises(ConfigError, match=message):
        StageLosses(losses, 2, 3)
