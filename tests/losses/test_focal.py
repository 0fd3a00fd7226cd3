import math

import pytest
import torch

from longtail.errors import ConfigError
from longtail.losses.cross_entropy import cross_entropy
from longtail.losses.focal import FocalLoss, sigmoid_focal, softmax_focal
from support.labels import boxes


def test_softmax_by_hand():
    # softmax of (ln 3, 0) is (3/4, 1/4): (1/4)^2 ln(4/3) and (3/4)^2 ln 4
    logits = torch.tensor([[math.log(3), 0.0]] * 3)
    each = softmax_focal(logits, torch.tensor([0, 1, 255]))
    torch.testing.assert_close(each, torch.tensor([math.log(4 / 3) / 16, 9 * math.log(4) / 16, 0.0]))


def test_sigmoid_by_hand():
    # sigmoid of ln 3 is 3/4. Label 0: 1/4 (1/4)^2 ln(4/3) + 3/4 (1/2)^2 ln 2; background: 3/4 ((3/4)^2 ln 4 + ln 2 / 4)
    logits = torch.tensor([[math.log(3), 0.0]] * 3)
    each = sigmoid_focal(logits, torch.tensor([0, 2, 255]))
    label = math.log(4 / 3) / 64 + 3 / 16 * math.log(2)
    background = 0.75 * (9 / 16 * math.log(4) + math.log(2) / 4)
    torch.testing.assert_close(each, torch.tensor([label, background, 0.0]))


def test_without_focus_they_are_cross_entropies():
    logits, target = torch.randn(2, 4, 3, 3), torch.randint(0, 4, (2, 3, 3))
    target[0, 0] = 255
    torch.testing.assert_close(FocalLoss(4, gamma=0.0)(logits, target), cross_entropy(logits, target))
    wanted = torch.nn.functional.one_hot(target.clamp(max=4), 5)[..., :4].movedim(-1, 1).float()
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1)
    found = sigmoid_focal(logits, target, alpha=None, gamma=0.0)
    torch.testing.assert_close(found, each * (target != 255))


def slow(logits: list[list[float]], target: list[int], alpha: float, gamma: float) -> float:
    """The sum over rows and classes, one at a time."""
    total = 0.0
    for row, label in zip(logits, target, strict=True):
        for c, logit in enumerate(row):
            p = 1 / (1 + math.exp(-logit))
            of_label = c == label
            p_t = p if of_label else 1 - p
            total -= (alpha if of_label else 1 - alpha) * (1 - p_t) ** gamma * math.log(p_t)
    return total


def test_boxes_against_a_slow_reference_and_their_divisors():
    logits, target = torch.randn(9, 4), torch.tensor([0, 4, 1, 3, 4, 4, 2, 0, -100])
    total = slow(logits[:8].tolist(), target[:8].tolist(), 0.3, 1.5)
    for normalizer, divisor in ((None, 5), ("foreground", 5), ("valid", 8), ("all", 9), ("sum", 1)):
        loss = FocalLoss(boxes(4), kind="sigmoid", gamma=1.5, alpha=0.3, normalizer=normalizer)
        assert loss(logits, target).item() == pytest.approx(total / divisor, rel=1e-5)


def test_torchvision_agrees():
    from torchvision.ops import sigmoid_focal_loss

    logits, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 3, 3, 0])
    wanted = torch.nn.functional.one_hot(target, 4)[:, :3].float()
    torch.testing.assert_close(sigmoid_focal(logits, target).sum(), sigmoid_focal_loss(logits, wanted, reduction="sum"))


def test_the_background_is_what_the_best_class_leaves():
    loss = FocalLoss(boxes(3), kind="sigmoid")
    read = loss.probabilities(torch.tensor([[math.log(3), 0.0, -9.0]]))
    assert loss.num_logits == 3
    torch.testing.assert_close(read[0, [0, 1, 3]], torch.tensor([0.75, 0.5, 0.25]))
    softmax = FocalLoss(boxes(3), kind="softmax")
    assert softmax.num_logits == 4 and softmax.initial_bias is None
    assert FocalLoss(4, kind="sigmoid").num_logits == 4


def test_sigmoids_start_at_the_prior():
    loss = FocalLoss(boxes(1203), kind="sigmoid", prior=0.01)
    torch.testing.assert_close(loss.initial_bias.sigmoid(), torch.full((1203,), 0.01))
    # at the start a thousand classes then cost a background box less than one class costs an object
    start = loss.initial_bias.expand(2, -1)
    background, labelled = sigmoid_focal(start, torch.tensor([1203, 5]))
    assert background < 0.02 * labelled


@pytest.mark.parametrize("options", [{"gamma": -1.0}, {"alpha": 2.0}, {"prior": 0.0}])
def test_refusals(options):
    with pytest.raises(ConfigError, match="focal"):
        FocalLoss(3, **options)
