"""Bands along boundaries against erosion in plain Python, and flows by hand."""

import numpy as np
import pytest
import torch

from longtail.frequency import CategoryGroups
from longtail.metrics.by_group import segmentation_prediction
from longtail.metrics.label_bands import band_width, boundary_band, count_bands
from longtail.metrics.label_diagnosis import LabelDiagnosis, label_flows


def eroded(mask, width):
    """Pixels whose whole square lies in the mask; nothing lies outside the image."""
    height, length = mask.shape
    kept = np.zeros_like(mask)
    for y in range(height):
        for x in range(length):
            inside = width <= y < height - width and width <= x < length - width
            kept[y, x] = inside and mask[y - width : y + width + 1, x - width : x + width + 1].all()
    return kept


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", [1, 2, 5, 40])
def test_a_band_is_the_class_without_its_erosion(seed, width):
    draw = np.random.default_rng(seed)
    labels = np.kron(draw.integers(0, 3, (3, 4)), np.ones((6, 5), dtype=int))
    band = boundary_band(labels, width)
    for label in range(3):
        np.testing.assert_array_equal(band & (labels == label), (labels == label) & ~eroded(labels == label, width))


def test_width_is_two_percent_of_the_diagonal_and_at_least_one_pixel():
    assert band_width(480, 360) == 12 and band_width(4, 3) == 1


@pytest.mark.parametrize("seed", range(4))
def test_boundary_iou_is_that_of_the_definition(seed):
    draw = np.random.default_rng(seed)
    truth = np.kron(draw.integers(0, 3, (4, 4)), np.ones((7, 8), dtype=int))
    prediction = np.where(draw.random(truth.shape) < 0.02, draw.integers(0, 3, truth.shape), np.roll(truth, 2, axis=1))
    truth[:3] = 255
    share = 0.06
    counts = count_bands(prediction, truth, 3, 255, share)
    width = band_width(*truth.shape, share)
    seen = np.where(truth == 255, 255, prediction)
    for label in range(3):
        true, called = ((m == label) & ~eroded(m == label, width) for m in (truth, seen))
        assert counts.boundary[:, label].tolist() == [(true & called).sum(), (true | called).sum()]
        for other in range(3):
            assert counts.confusion[label, other] == (true & (prediction == other)).sum()


def test_flows_by_hand():
    confusion = np.array([[90, 6, 4], [2, 8, 0], [5, 1, 4]])
    band = np.array([[20, 5, 1], [2, 4, 0], [2, 1, 0]])
    flows = label_flows(confusion, band, CategoryGroups.explicit({"head": [0], "tail": [1, 2]}))
    assert flows["groups"] == {"head": {"head": [0, 0], "tail": [10, 6]}, "tail": {"head": [7, 4], "tail": [1, 1]}}
    assert flows["classes"] == [[0, 1, 6, 5], [0, 2, 4, 1], [1, 0, 2, 2], [2, 0, 5, 2], [2, 1, 1, 1]]


def test_a_prediction_is_completed_and_ranks_are_merged():
    truth = torch.zeros(2, 20, 20, dtype=torch.uint8)
    truth[:, 5:15, 5:15] = 1
    predicted = truth.clone()
    predicted[0, 5:15, 10:15] = 0
    groups = CategoryGroups.explicit({"head": [0], "tail": [1]})
    parts = []
    for image, name in ((1, "b"), (0, "a")):
        part = LabelDiagnosis(2, 255)
        part.add(name, *part.look(predicted[image], truth[image]))
        parts.append(part)
    whole = LabelDiagnosis(2, 255)
    whole.merge(parts)
    confusion = torch.tensor([[600, 0], [50, 150]])
    scores = segmentation_prediction(confusion, groups)
    whole.complete(scores, confusion, groups)
    # class 1, band of 1 pixel: 36 of each true square; the second is half as wide: 36 + 26 - 18 in either, 18 in both
    assert scores.per_class["boundary_IoU"][1] == pytest.approx((36 + 18) / (36 + 44))
    assert scores.groups["tail"]["boundary_mIoU"] == scores.per_class["boundary_IoU"][1]
    assert scores.extra["flows"]["groups"]["tail"]["head"] == [50, 18]
    assert whole.images.parts[""].names == ("a", "b")
    assert whole.images.parts[""].counts[:, :, 1].tolist() == [[50, 100, 50], [100, 100, 100]]
