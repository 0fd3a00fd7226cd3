import pytest
import torch

from longtail.detection.two_heads import TwoHeadsLoss
from longtail.errors import ConfigError
from longtail.losses.cross_entropy import CrossEntropy
from support.labels import boxes

C = 3  # foreground classes; 3 is the background


def build(threshold=10) -> TwoHeadsLoss:
    plain = [CrossEntropy(boxes(C)) for _ in range(2)]
    return TwoHeadsLoss(*plain, torch.tensor([100, 10, 1]), threshold)


def test_scores_by_hand():
    # first: all equal, 1/4 each; second: all on class 2, (0, 0, 1, 0). Class 0 has more than 10 examples.
    first, second = torch.zeros(1, 4), torch.tensor([[-50.0, -50.0, 50.0, -50.0]])
    read = build().probabilities(torch.cat([first, second], dim=1))
    # first for class 0 and the background, second for classes 1 and 2: (1/4, 0, 1, 1/4) / 1.5
    torch.testing.assert_close(read, torch.tensor([[1 / 6, 0.0, 2 / 3, 1 / 6]]))


def test_limits_are_one_head():
    logits = torch.randn(5, 8)
    first, second = logits.split(4, dim=1)
    torch.testing.assert_close(build(threshold=0).probabilities(logits), first.softmax(dim=1))
    equal = torch.cat([second, second], dim=1)
    torch.testing.assert_close(build(threshold=1000).probabilities(equal), second.softmax(dim=1))


def test_loss_trains_the_second_alone():
    loss = build()
    assert loss.num_logits == 8
    logits = torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, -100, 1])
    value = loss(logits, target)
    torch.testing.assert_close(value, CrossEntropy(boxes(C))(logits[:, 4:], target))
    value.backward()
    assert (logits.grad[:, :4] == 0).all()
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


def test_extremes_and_nothing_labelled():
    loss = build()
    assert loss.probabilities(torch.full((2, 8), 100.0)).isfinite().all()
    assert loss(torch.zeros(2, 8), torch.full((2,), -100)).item() == 0


def test_refusals():
    with pytest.raises(ConfigError, match="2 counts"):
        TwoHeadsLoss(CrossEntropy(boxes(3)), CrossEntropy(boxes(3)), torch.tensor([1, 2]))
    with pytest.raises(ConfigError, match="heads of 3 and 4"):
        TwoHeadsLoss(CrossEntropy(boxes(2)), CrossEntropy(boxes(3)), torch.tensor([1, 2, 3]))
