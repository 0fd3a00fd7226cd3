import subprocess
import sys

import pytest
import torch

from longtail.errors import ConfigError, DataError
from longtail.metrics.confusion import ConfusionMatrix
from longtail.metrics.segmentation import confusion_matrix


def random_maps(num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(0, num_classes, (2, 8, 9)), torch.randint(0, num_classes, (2, 8, 9))


def test_metric_accumulates_merges_and_resets():
    metric, other = ConfusionMatrix(19), ConfusionMatrix(19)
    batches = [random_maps(19) for _ in range(3)]
    for batch in batches[:2]:
        metric.update(*batch)
    other.update(*batches[2])
    metric.merge_state(other)
    joined = confusion_matrix(torch.cat([p for p, _ in batches]), torch.cat([t for _, t in batches]), 19)
    assert torch.equal(metric.compute(), joined)
    assert metric.compute().dtype == torch.int64
    metric.reset()
    assert metric.matrix.sum() == 0


def test_metric_keeps_integers_in_half_precision_and_adds_nothing_when_refusing():
    metric = ConfusionMatrix(3).half()
    metric.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    with pytest.raises(DataError):
        metric.update(torch.tensor([0, 5]), torch.tensor([0, 1]))
    assert metric.matrix.dtype == torch.int64
    assert metric.matrix.sum() == 2


def test_metric_refuses_no_classes():
    with pytest.raises(ConfigError):
        ConfusionMatrix(0)


_TWO_RANKS = """
import sys, torch
from longtail.metrics.confusion import ConfusionMatrix
rank = int(sys.argv[1])
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
metric = ConfusionMatrix(3)
metric.update(torch.tensor([rank]), torch.tensor([2]))
assert metric.compute().tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 0]]
torch.distributed.destroy_process_group()
"""


def test_metric_sums_over_ranks(tmp_path):
    command = [sys.executable, "-c", _TWO_RANKS]
    ranks = [subprocess.Popen([*command, str(rank), str(tmp_path / "group")]) for rank in range(2)]
    assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
