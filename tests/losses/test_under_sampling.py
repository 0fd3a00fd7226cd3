import numpy as np
import pytest
import torch

from longtail.errors import ConfigError
from longtail.frequency import ClassFrequency
from longtail.losses.build import build_loss
from longtail.losses.cross_entropy import cross_entropy
from longtail.losses.label_space import LabelSpace
from longtail.losses.under_sampling import keep_probabilities

FREQUENCY = ClassFrequency(tuple("abc"), images=np.array([8, 4, 2]), pixels=np.array([1000, 100, 10]))


def test_probabilities_by_hand():
    counts = torch.tensor([1000.0, 100.0, 10.0], dtype=torch.float64)
    torch.testing.assert_close(keep_probabilities(counts).tolist(), [0.1, 1.0, 1.0])
    torch.testing.assert_close(keep_probabilities(counts, 0.0).tolist(), [0.01, 0.1, 1.0])
    assert keep_probabilities(counts, 1.0).tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ConfigError, match="quantile"):
        keep_probabilities(counts, 2.0)


def test_keeps_the_share_and_divides_by_what_it_keeps():
    loss = build_loss("under_sampling", LabelSpace.of_pixels(FREQUENCY))
    # class 0 costs log 3 everywhere, whatever is kept: the mean stays, its gradient says what was kept
    logits = torch.zeros(1, 3, 100, 200, requires_grad=True)
    target = torch.zeros(1, 100, 200, dtype=torch.long)
    torch.manual_seed(0)
    value = loss(logits, target)
    assert value.item() == pytest.approx(np.log(3))
    value.backward()
    kept = (logits.grad[0, 0] != 0).float().mean().item()
    assert kept == pytest.approx(0.1, abs=0.01)


def test_limit_and_evaluation_are_the_inner_loss():
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    plain = cross_entropy(logits, target)
    torch.testing.assert_close(
        build_loss({"name": "under_sampling", "quantile": 1.0}, LabelSpace.of_pixels(FREQUENCY))(logits, target), plain
    )
    torch.testing.assert_close(
        build_loss("under_sampling", LabelSpace.of_pixels(FREQUENCY)).eval()(logits, target), plain
    )


def test_rare_classes_are_never_left_out():
    loss = build_loss("under_sampling", LabelSpace.of_pixels(FREQUENCY))
    logits, target = torch.randn(50, 3), torch.full((50,), 2)
    torch.testing.assert_close(loss(logits, target), cross_entropy(logits, target))


def test_a_wrapped_loss_owns_the_reading_of_its_logits():
    counts = ClassFrequency(tuple("abc"), images=np.array([8, 4, 2]), instances=np.array([10, 5, 2]))
    for name in ("under_sampling", "class_balanced"):
        wrapped = build_loss({"name": name, "loss": "equalization_v2"}, LabelSpace.of_boxes(counts))
        assert wrapped.absolute_logits
        torch.testing.assert_close(wrapped.initial_bias, wrapped.loss.initial_bias)
        logits = torch.randn(2, 4)
        torch.testing.assert_close(wrapped.probabilities(logits), wrapped.loss.probabilities(logits))
