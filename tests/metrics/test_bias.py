import math

import pytest
import torch

from longtail.errors import DataError
from longtail.metrics.bias import ClassBias, squared_error_per_class


def slow_bias(probabilities: torch.Tensor, target: torch.Tensor) -> list[float]:
    num_classes = probabilities.shape[1]
    total, count = [0.0] * num_classes, [0] * num_classes
    for n in range(len(target)):
        for y in range(target.shape[1]):
            for x in range(target.shape[2]):
                label = int(target[n, y, x])
                if label == 255:
                    continue
                for j in range(num_classes):
                    total[label] += (float(probabilities[n, j, y, x]) - (j == label)) ** 2
                count[label] += 1
    return [t / c if c else math.nan for t, c in zip(total, count, strict=True)]


def test_by_hand():
    metric = ClassBias(2)
    metric.update(torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]]), torch.tensor([0, 0, 1]))
    assert metric.compute().tolist() == pytest.approx([(0.08 + 0.5) / 2, 0.02], abs=1e-6)


def test_equals_plain_python_over_batches():
    metric = ClassBias(5)
    probabilities = torch.randn(3, 5, 4, 6).softmax(1)
    target = torch.randint(4, (3, 4, 6))  # class 4 is absent
    target[torch.rand(target.shape) < 0.3] = 255
    metric.update(probabilities[:1], target[:1])
    metric.update(probabilities[1:], target[1:])
    assert metric.compute().tolist() == pytest.approx(slow_bias(probabilities, target), nan_ok=True, abs=1e-6)


def test_zero_for_perfect_and_two_for_confidently_wrong():
    target = torch.tensor([[0, 1]])
    perfect = torch.nn.functional.one_hot(target, 3).movedim(-1, 1).float()
    metric = ClassBias(3)
    metric.update(perfect, target)
    assert metric.compute()[:2].tolist() == [0, 0]
    metric.reset()
    metric.update(perfect.roll(1, dims=1), target)
    assert metric.compute()[:2].tolist() == [2, 2]


def test_ensembling_lowers_the_mean_bias():
    runs = torch.randn(8, 2, 4, 32, 32).softmax(2)
    target = torch.randint(4, (2, 32, 32))

    def bias(probabilities):
        sums, counts = squared_error_per_class(probabilities, target)
        return (sums.sum() / counts.sum()).item()

    assert bias(runs.mean(0)) < min(bias(run) for run in runs)


def test_all_ignored_and_stray_labels():
    metric = ClassBias(3)
    metric.update(torch.full((1, 3, 2, 2), 1 / 3), torch.full((1, 2, 2), 255))
    assert metric.compute().isnan().all()
    for stray in (3, 9):
        with pytest.raises(DataError, match=str(stray)):
            metric.update(torch.full((1, 3, 1), 1 / 3), torch.tensor([[stray]]))
