import math

import numpy as np
import pytest
import torch
from hotcoco.semantic import SemanticEval
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.errors import DataError
from longtail.metrics.segmentation import (
    accuracy_per_class,
    confusion_matrix,
    iou_per_class,
    overall_accuracy,
)


def slow_confusion(prediction: torch.Tensor, target: torch.Tensor, num_classes: int, ignore_index: int) -> list:
    matrix = [[0] * num_classes for _ in range(num_classes)]
    for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True):
        if t != ignore_index:
            matrix[t][p] += 1
    return matrix


def random_maps(num_classes: int, dtype=torch.uint8, ignore_index: int = 255, shape=(2, 17, 23)):
    prediction = torch.randint(num_classes, shape).to(dtype)
    target = torch.randint(num_classes, shape)
    target[torch.rand(shape) < 0.2] = ignore_index
    return prediction, target.to(dtype)


def test_by_hand():
    truth = torch.tensor([[0, 0, 0, 1], [1, 2, 255, 255]])
    predicted = torch.tensor([[0, 0, 1, 1], [0, 2, 3, 0]])
    matrix = confusion_matrix(predicted, truth, 4)
    assert matrix.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert iou_per_class(matrix).tolist()[:3] == pytest.approx([2 / 4, 1 / 3, 1.0])
    assert accuracy_per_class(matrix).tolist()[:3] == pytest.approx([2 / 3, 1 / 2, 1.0])
    assert math.isnan(iou_per_class(matrix)[3])
    assert overall_accuracy(matrix) == pytest.approx(4 / 6)


def test_class_only_predicted_has_iou_zero_that_counts_and_no_accuracy():
    matrix = torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    assert iou_per_class(matrix)[1] == 0
    assert math.isnan(accuracy_per_class(matrix)[1])
    assert math.isnan(iou_per_class(matrix)[2])
    assert iou_per_class(matrix).nanmean().item() == pytest.approx(0.75 / 2)
    assert accuracy_per_class(matrix).nanmean().item() == pytest.approx(0.75)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("num_classes", [1, 2, 19, 255])
def test_equals_plain_python(num_classes, dtype):
    prediction, target = random_maps(num_classes, dtype)
    assert confusion_matrix(prediction, target, num_classes).tolist() == slow_confusion(
        prediction, target, num_classes, 255
    )


@pytest.mark.parametrize(
    ("num_classes", "ignore_index", "dtype"),
    [(300, 65535, torch.int32), (300, 65535, torch.uint16), (847, -100, torch.int64), (19, -1, torch.int32)],
)
def test_general_path_equals_plain_python(num_classes, ignore_index, dtype):
    prediction, target = random_maps(num_classes, dtype, ignore_index)
    assert confusion_matrix(prediction, target, num_classes, ignore_index).tolist() == slow_confusion(
        prediction, target, num_classes, ignore_index
    )


@given(st.integers(2, 40), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_equals_hotcoco(num_classes, seed):
    """The oracle: hotcoco is verified against mmsegmentation."""
    rng = np.random.default_rng(seed)
    used = rng.choice(num_classes, size=max(1, num_classes // 2), replace=False)
    truth = rng.choice(used, size=(16, 16)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = 255
    predicted = rng.integers(num_classes, size=truth.shape).astype(np.uint8)
    oracle = SemanticEval(num_classes)
    oracle.update(truth, predicted)
    matrix = confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(truth), num_classes)
    assert (matrix.numpy() == oracle.confusion()).all()
    expected = oracle.results()

    def undefined(value):
        return math.nan if value == -1.0 else value

    for name, value in (
        ("mIoU", float(iou_per_class(matrix).nanmean())),
        ("mAcc", float(accuracy_per_class(matrix).nanmean())),
        ("aAcc", overall_accuracy(matrix)),
    ):
        assert value == pytest.approx(undefined(expected[name]), nan_ok=True)
    rows = expected["per_class"]
    assert iou_per_class(matrix).tolist() == pytest.approx([undefined(r["IoU"]) for r in rows], nan_ok=True)
    assert accuracy_per_class(matrix).tolist() == pytest.approx([undefined(r["Acc"]) for r in rows], nan_ok=True)


def test_predictions_at_ignored_pixels_do_not_matter():
    truth = torch.tensor([0, 255, 1])
    for stray in (7, 255, 300, -3):
        assert confusion_matrix(torch.tensor([0, stray, 1]), truth, 2).tolist() == [[1, 0], [0, 1]]


def test_ignored_class_inside_the_range():
    matrix = confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2, ignore_index=0)
    assert matrix.tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize("values", [([0, 7], [0, 1], "prediction", 7), ([0, 1], [9, 1], "target", 9)])
def test_refuses_values_out_of_range(values, dtype):
    prediction, target, name, value = values
    with pytest.raises(DataError, match=f"{name} holds the value {value}"):
        confusion_matrix(torch.tensor(prediction).to(dtype), torch.tensor(target).to(dtype), 3)


@pytest.mark.parametrize("value", [-1, 1000])
def test_refuses_values_beyond_a_byte(value):
    with pytest.raises(DataError, match=str(value)):
        confusion_matrix(torch.tensor([value]), torch.tensor([0]), 3)
    with pytest.raises(DataError, match=str(value)):
        confusion_matrix(torch.tensor([0]), torch.tensor([value]), 3)


def test_refuses_shapes_that_differ():
    with pytest.raises(DataError, match=r"\(2, 3\).*\(3, 2\)"):
        confusion_matrix(torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(3, 2, dtype=torch.uint8), 3)


def test_empty_and_all_ignored():
    empty = torch.zeros(0, dtype=torch.int64)
    assert confusion_matrix(empty, empty, 3).sum() == 0
    ignored = torch.full((4,), 255)
    matrix = confusion_matrix(torch.zeros(4, dtype=torch.int64), ignored, 3)
    assert matrix.sum() == 0
    assert iou_per_class(matrix).isnan().all() and math.isnan(overall_accuracy(matrix))


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_iou_is_at_most_accuracy(seed):
    matrix = torch.from_numpy(np.random.default_rng(seed).integers(0, 50, (6, 6)))
    assert (iou_per_class(matrix) <= accuracy_per_class(matrix) + 1e-12).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_blocks_add_up(monkeypatch, dtype):
    from longtail.metrics import segmentation

    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 6, (7, 11), generator=generator, dtype=torch.uint8)
    prediction = torch.randint(0, 5, (7, 11), generator=generator).to(dtype)
    target[target == 5] = 255
    whole = confusion_matrix(prediction, target, 5)
    monkeypatch.setattr(segmentation, "_BLOCK", 10)
    assert torch.equal(confusion_matrix(prediction, target, 5), whole)
    if dtype == torch.int64:  # too large for a byte in a later block
        prediction[-1, -1], target[-1, -1] = 300, 1
        with pytest.raises(DataError, match="prediction holds the value 300"):
            confusion_matrix(prediction, target, 5)
