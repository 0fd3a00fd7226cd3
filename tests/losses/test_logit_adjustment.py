import math

import numpy as np
import pytest
import torch

from longtail.errors import ConfigError
from longtail.frequency import ClassFrequency
from longtail.losses.build import build_loss
from longtail.losses.cross_entropy import cross_entropy
from longtail.losses.label_space import LabelSpace
from longtail.losses.logit_adjustment import log_prior

FREQUENCY = ClassFrequency(
    tuple("abc"), images=np.array([8, 4, 1]), instances=np.array([6, 3, 0]), pixels=np.array([80, 16, 4])
)


def test_value_by_hand():
    # equal logits: the adjusted softmax is the prior itself
    loss = build_loss("logit_adjustment", LabelSpace.of_pixels(FREQUENCY))
    logits = torch.zeros(1, 3, 1, 3)
    expected = -(math.log(0.8) + math.log(0.16) + math.log(0.04)) / 3
    assert loss(logits, torch.tensor([[[0, 1, 2]]])).item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(loss.probabilities(logits), logits.softmax(dim=1))


def test_no_adjustment_is_cross_entropy():
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    target[0, 0] = 255
    torch.testing.assert_close(
        build_loss({"name": "logit_adjustment", "tau": 0}, LabelSpace.of_pixels(FREQUENCY))(logits, target),
        cross_entropy(logits, target),
    )
    even = ClassFrequency(tuple("abc"), images=np.ones(3), pixels=np.full(3, 70))
    torch.testing.assert_close(
        build_loss("logit_adjustment", LabelSpace.of_pixels(even))(logits, target), cross_entropy(logits, target)
    )


def test_slow_reference():
    loss = build_loss({"name": "logit_adjustment", "tau": 1.5}, LabelSpace.of_boxes(FREQUENCY))
    # a class that never occurs counts as one sample: shares 6, 3, 1 of 10; the background's logit is left alone
    prior = [3 * 0.6, 3 * 0.3, 3 * 0.1, 1.0]
    logits, target = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, -100])
    total = 0.0
    for row, label in zip(logits[:5].tolist(), target[:5].tolist(), strict=True):
        masses = [p**1.5 * math.exp(o) for p, o in zip(prior, row, strict=True)]
        total -= math.log(masses[label] / sum(masses))
    assert loss(logits, target).item() == pytest.approx(total / 5, rel=1e-5)


def test_objects_against_background_stay_as_they_were():
    counts = torch.tensor([70.0, 20.0, 10.0], dtype=torch.float64)
    prior = log_prior(counts, background=True)
    assert prior[3] == 0
    # the mean over the foreground of the factor on the odds against the background
    assert ((counts / counts.sum()).float() * torch.exp(-prior[:3])).sum().item() == pytest.approx(1)


def test_a_known_share_of_background_is_a_prior_like_others():
    counts = torch.tensor([3.0, 1.0], dtype=torch.float64)
    prior = log_prior(counts, background=True, background_share=0.6)
    torch.testing.assert_close(prior.softmax(dim=0), torch.tensor([0.3, 0.1, 0.6]))
    assert prior.logsumexp(dim=0).item() == pytest.approx(math.log(3))
    with pytest.raises(ConfigError, match="background_share is 1"):
        log_prior(counts, background=True, background_share=1)


def test_balanced_data_are_recovered():
    """Features that say nothing: the classifier learns to give every class the same logit, not the prior."""
    loss = build_loss("logit_adjustment", LabelSpace.of_pixels(FREQUENCY))
    bias = torch.zeros(3, requires_grad=True)
    target = torch.tensor([0] * 80 + [1] * 16 + [2] * 4).view(1, 10, 10)
    optimizer = torch.optim.SGD([bias], 1.0)
    for _ in range(300):
        optimizer.zero_grad()
        loss(bias.view(1, 3, 1, 1).expand(1, 3, 10, 10), target).backward()
        optimizer.step()
    torch.testing.assert_close(loss.probabilities(bias[None]), torch.full((1, 3), 1 / 3), atol=1e-3, rtol=0)


def test_refusals():
    with pytest.raises(ConfigError, match="tau"):
        build_loss({"name": "logit_adjustment", "tau": -1}, LabelSpace.of_pixels(FREQUENCY))
