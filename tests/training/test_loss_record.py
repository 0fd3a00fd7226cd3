import pytest
import torch

from longtail.training.loss_record import LossRecord
from longtail.training.run_folder import RunFolder


def test_counts_are_kept_beside_the_losses_and_not_summed(tmp_path):
    record = LossRecord("train", RunFolder(tmp_path), accumulate=1, iteration=0)
    for loss, count in ((1.0, 4.0), (2.0, 8.0)):
        terms = {"box": torch.tensor(loss), "class": torch.tensor(3.0)}
        record.add(terms, {"positives/stage_1/rare": torch.tensor(count)})
    assert record.agree(0) == 0
    losses, counts = record.take_means(2)
    assert losses == pytest.approx({"loss": 4.5, "box": 1.5, "class": 3.0})
    assert counts == {"positives/stage_1/rare": 6.0}
