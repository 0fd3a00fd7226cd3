import math

import pytest
import torch

from longtail.errors import ConfigError, DataError
from longtail.losses.equalization_v2 import EqualizationLossV2
from longtail.losses.focal import FocalLoss
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


@pytest.mark.parametrize("loss", [EqualizationLossV2(6), FocalLoss(6, kind="sigmoid")], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("wrong", [-1, 6, 200])
def test_labels_that_are_no_class_are_refused(loss, wrong):
    with pytest.raises(DataError, match=rf"\[{wrong}\], but classes are 0 … 5"):
        loss(torch.zeros(1, 6, 2), torch.tensor([[5, wrong]]))
    assert torch.isfinite(loss(torch.zeros(1, 6, 2), torch.tensor([[5, 255]])))


def test_an_ignored_class_is_refused():
    with pytest.raises(ConfigError, match="ignore_index 255 is the id of a class"):
        FocalLoss(300)
