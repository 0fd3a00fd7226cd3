import math

import pytest
import torch

from longtail.losses.sigmoid import one_hot, prior_logit, with_background


def test_one_hot_leaves_out_the_background():
    found = one_hot(torch.tensor([1, 0, 2, 1204]), 2, torch.zeros(1, dtype=torch.float64))
    assert found.tolist() == [[0, 1], [1, 0], [0, 0], [0, 0]] and found.dtype == torch.float64


def test_the_background_wins_where_no_class_reaches_one_half():
    found = with_background(torch.tensor([[0.2, 0.4], [0.7, 0.1]]))
    torch.testing.assert_close(found, torch.tensor([[0.2, 0.4, 0.6], [0.7, 0.1, 0.3]]))


def test_prior():
    assert prior_logit(0.5) == 0
    assert prior_logit(0.01) == pytest.approx(-math.log(99))
