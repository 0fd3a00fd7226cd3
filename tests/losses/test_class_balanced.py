import math

import numpy as np
import pytest
import torch

from longtail.errors import ConfigError
from longtail.frequency import ClassFrequency
from longtail.losses.build import build_loss
from longtail.losses.class_balanced import effective_number_weights
from longtail.losses.cross_entropy import cross_entropy
from longtail.losses.label_space import LabelSpace

FREQUENCY = ClassFrequency(
    tuple("abc"), images=np.array([8, 4, 2]), instances=np.array([10, 5, 0]), pixels=np.array([900, 90, 10])
)


def counts(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_weights_by_hand():
    # β = 1/2: effective numbers of 1 and 2 samples are 1 and 3/2; weights 1 and 2/3, scaled to the mean 1
    torch.testing.assert_close(effective_number_weights(counts(1, 2), 0.5), counts(6 / 5, 4 / 5))


def test_limits():
    some = counts(3, 70, 100_000)
    torch.testing.assert_close(effective_number_weights(some, 0.0), counts(1, 1, 1))
    inverse = (1 / some) / (1 / some).mean()
    torch.testing.assert_close(effective_number_weights(some, 1.0), inverse)
    torch.testing.assert_close(effective_number_weights(some, 1 - 1e-12), inverse, rtol=1e-6, atol=0)


def test_slow_reference():
    some, beta = [2, 30, 4000], 0.999
    raw = [(1 - beta) / (1 - math.pow(beta, n)) for n in some]
    torch.testing.assert_close(effective_number_weights(counts(*some), beta), counts(*(3 * r / sum(raw) for r in raw)))


def test_boxes_weigh_by_instances_and_the_background_by_one():
    loss = build_loss({"name": "class_balanced", "beta": 0.5}, LabelSpace.of_boxes(FREQUENCY))
    expected = effective_number_weights(counts(10, 5, 1), 0.5)  # a class that never occurs counts as one sample
    torch.testing.assert_close(loss.weights, torch.cat([expected, counts(1)]).float())
    logits, target = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, -100])
    each = [cross_entropy(logits[i : i + 1], target[i : i + 1], ignore_index=-100) for i in range(6)]
    by_hand = sum(loss.weights[label] * e for label, e in zip(target[:5], each[:5], strict=True)) / 5
    torch.testing.assert_close(loss(logits, target), by_hand)


def test_pixels_weigh_by_images():
    loss = build_loss({"name": "class_balanced", "beta": 0.9}, LabelSpace.of_pixels(FREQUENCY))
    torch.testing.assert_close(loss.weights, effective_number_weights(counts(8, 4, 2), 0.9).float())
    loss = build_loss({"name": "class_balanced", "beta": 0.9, "unit": "pixels"}, LabelSpace.of_pixels(FREQUENCY))
    torch.testing.assert_close(loss.weights, effective_number_weights(counts(900, 90, 10), 0.9).float())


def test_any_loss_is_weighted():
    options = {"name": "class_balanced", "loss": {"name": "focal", "gamma": 1}, "beta": 0.0}
    loss = build_loss(options, LabelSpace.of_boxes(FREQUENCY))
    plain = build_loss({"name": "focal", "gamma": 1}, LabelSpace.of_boxes(FREQUENCY))
    assert loss.num_logits == plain.num_logits == 3
    torch.testing.assert_close(loss.initial_bias, plain.initial_bias)
    logits, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 3, 3, -100])
    torch.testing.assert_close(loss(logits, target), plain(logits, target))
    torch.testing.assert_close(loss.probabilities(logits), plain.probabilities(logits))
    deferred = build_loss({"name": "class_balanced", "loss": "ldam"}, LabelSpace.of_pixels(FREQUENCY))
    deferred.set_progress(0.9)
    assert deferred.loss.progress == 0.9


def test_refusals():
    with pytest.raises(ConfigError, match="beta of the effective number is 2"):
        build_loss({"name": "class_balanced", "beta": 2}, LabelSpace.of_pixels(FREQUENCY))
    with pytest.raises(ConfigError, match="no option 'gamma'"):
        build_loss({"name": "class_balanced", "loss": {"name": "ldam", "gamma": 2}}, LabelSpace.of_pixels(FREQUENCY))
