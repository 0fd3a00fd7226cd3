import math

import pytest
import torch

from longtail.errors import ConfigError
from longtail.losses.cross_entropy import CrossEntropy, cross_entropy


def test_value_by_hand():
    # softmax of (ln 3, 0) is (3/4, 1/4); labels 0 and 1 cost -ln 3/4 and -ln 1/4; the third position is ignored.
    logits = torch.tensor([[math.log(3), 0.0]] * 3)
    target = torch.tensor([0, 1, 255])
    total = -math.log(3 / 4) - math.log(1 / 4)
    assert cross_entropy(logits, target, normalizer="sum").item() == pytest.approx(total)
    assert cross_entropy(logits, target, normalizer="valid").item() == pytest.approx(total / 2)
    assert cross_entropy(logits, target, normalizer="all").item() == pytest.approx(total / 3)


def test_valid_is_the_stock_mean():
    logits, target = torch.randn(2, 5, 4, 4), torch.randint(0, 5, (2, 4, 4))
    target[0, 0] = 255
    expected = torch.nn.functional.cross_entropy(logits, target, ignore_index=255)
    torch.testing.assert_close(cross_entropy(logits, target), expected)
    weight = torch.rand(5) + 0.1
    expected = torch.nn.functional.cross_entropy(logits, target, weight, ignore_index=255)
    torch.testing.assert_close(cross_entropy(logits, target, weight=weight), expected)


@pytest.mark.parametrize("normalizer", ["valid", "all", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_labelled_costs_exactly_nothing(normalizer, weighted):
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    weight = torch.ones(3) if weighted else None
    target = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    loss = cross_entropy(logits, target, normalizer=normalizer, weight=weight)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_ignored_positions_get_no_gradient_and_rows_sum_to_zero():
    logits = torch.randn(4, 3, requires_grad=True)
    cross_entropy(logits, torch.tensor([0, 255, 2, 1])).backward()
    assert (logits.grad[1] == 0).all()
    torch.testing.assert_close(logits.grad.sum(dim=1), torch.zeros(4))


def test_module_with_class_weights_and_extreme_logits():
    loss = CrossEntropy(3, class_weight=[1.0, 2.0, 3.0])
    logits = torch.tensor([[100.0, -100.0, 0.0]])
    assert loss(logits, torch.tensor([1])).item() == pytest.approx(200)
    assert loss.num_logits == 3
    with pytest.raises(ConfigError, match="2 class weights for 3"):
        CrossEntropy(3, class_weight=[1.0, 1.0])
