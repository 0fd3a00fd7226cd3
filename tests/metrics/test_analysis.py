import math

import numpy as np
import pytest
import torch

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.metrics import analysis
from longtail.metrics.segmentation import accuracy_per_class, iou_per_class, mean_iou

GROUPS = CategoryGroups.explicit({"head": [0, 1], "body": [2, 3], "tail": [4, 5]})


@pytest.fixture
def matrix() -> torch.Tensor:
    """Six long-tailed classes, every one present."""
    rng = np.random.default_rng(3)
    sizes = np.array([50_000, 20_000, 6000, 2000, 400, 150])
    rows = [rng.multinomial(n, 0.6 * np.eye(6)[j] + 0.4 * rng.dirichlet(np.ones(6))) for j, n in enumerate(sizes)]
    return torch.from_numpy(np.array(rows))


def test_uniform_by_hand():
    uniform = analysis.uniform_confusion(torch.tensor([[90, 10], [1, 1]]))
    assert uniform.tolist() == [[0.9, 0.1], [0.5, 0.5]]
    assert iou_per_class(uniform).tolist() == pytest.approx([0.9 / 1.5, 0.5 / 1.1])


def test_uniform_of_balanced_data_is_ordinary_and_accuracy_never_changes(matrix):
    balanced = torch.tensor([[6, 3, 1], [2, 8, 0], [0, 5, 5]])
    torch.testing.assert_close(iou_per_class(analysis.uniform_confusion(balanced)), iou_per_class(balanced))
    torch.testing.assert_close(accuracy_per_class(analysis.uniform_confusion(matrix)), accuracy_per_class(matrix))


def test_uniform_does_not_see_the_size_of_a_class(matrix):
    scaled = matrix.clone()
    scaled[2] *= 7
    torch.testing.assert_close(analysis.uniform_confusion(scaled), analysis.uniform_confusion(matrix))


def test_uniform_leaves_absent_classes_empty():
    uniform = analysis.uniform_confusion(torch.tensor([[3, 1], [0, 0]]))
    assert uniform.tolist() == [[0.75, 0.25], [0, 0]]


def test_sampled_uniform_tends_to_the_analytic_one(matrix):
    expected = iou_per_class(analysis.uniform_confusion(matrix))
    errors = [
        (iou_per_class(analysis.sampled_uniform_confusion(matrix * scale, seed=1)) - expected).abs().max().item()
        for scale in (1, 10_000)
    ]
    assert errors[1] < 0.002 < errors[0]


def test_sampled_uniform_is_seeded_and_keeps_the_rarest_whole(matrix):
    first, again, other = (analysis.sampled_uniform_confusion(matrix, seed=s) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(first[5], matrix[5])
    assert (first.sum(1) - 150).abs().max() < 60
    assert analysis.sampled_uniform_confusion(torch.zeros(3, 3, dtype=torch.int64)).sum() == 0


def test_uniform_labels_balance_a_data_set_and_one_image():
    target = torch.tensor([0] * 9000 + [1] * 900 + [2] * 100 + [255] * 50).view(5, -1).to(torch.uint8)
    generator = torch.Generator().manual_seed(0)
    masked = analysis.uniform_labels(target, 3, generator=generator)
    kept = torch.bincount(masked.flatten().long(), minlength=256)
    assert kept[2] == 100 and abs(kept[0] - 100) < 40 and abs(kept[1] - 100) < 40
    assert ((masked == target) | (masked == 255)).all()
    assert masked.dtype == target.dtype
    whole = analysis.uniform_labels(target, 3, counts=np.array([9000, 900, 100]), pixels_per_class=10_000)
    assert torch.equal(whole, target)
    ignored = torch.full((2, 2), 255)
    assert torch.equal(analysis.uniform_labels(ignored, 3), ignored)


def test_pearson_equals_numpy():
    rng = np.random.default_rng(0)
    x, y = rng.random(30), rng.random(30)
    assert analysis.pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert analysis.pearson(x, 3 * x + 1) == pytest.approx(1)
    y[4] = math.nan
    rest = np.delete(np.arange(30), 4)
    assert analysis.pearson(x, y) == pytest.approx(np.corrcoef(x[rest], y[rest])[0, 1])
    assert math.isnan(analysis.pearson(x, np.ones(30)))
    assert math.isnan(analysis.pearson(np.array([1.0]), np.array([1.0])))


def test_false_positives_and_negatives_have_one_sum(matrix):
    """MEDOE Eq. 12 and the first two lines of Eq. 14."""
    positives, negatives = analysis.false_positives(matrix), analysis.false_negatives(matrix)
    assert positives.sum() == negatives.sum() > 0
    torch.testing.assert_close(negatives.double(), (1 - accuracy_per_class(matrix)) * matrix.sum(1))


def test_published_numbers_imply_the_false_positives(matrix):
    """MEDOE Eq. 17, and its example: IoU 0.8 and accuracy 0.85 mean FP = 0.0625 num."""
    implied = analysis.implied_false_positives(accuracy_per_class(matrix), iou_per_class(matrix), matrix.sum(1))
    torch.testing.assert_close(implied, analysis.false_positives(matrix).double())
    example = analysis.implied_false_positives(torch.tensor([0.85]), torch.tensor([0.8]), torch.tensor([1.0]))
    assert example.item() == pytest.approx(0.0625, abs=1e-6)


def test_tolerated_false_positives_leave_the_iou(matrix):
    """MEDOE Eq. 16: TP grows by p, FP by p (num + FP), and the IoU stays."""
    num, hits, wrong = matrix.sum(1).double(), matrix.diagonal().double(), analysis.false_positives(matrix).double()
    p = torch.full_like(num, 0.03)
    more = analysis.tolerated_false_positives(p, num, wrong)
    torch.testing.assert_close((1 + p) * hits / (num + wrong + more), hits / (num + wrong))
    torch.testing.assert_close(more / num, p * accuracy_per_class(matrix) / iou_per_class(matrix))


def test_group_confusion_equals_loops(matrix):
    mass = analysis.group_confusion(matrix, GROUPS)
    for h, truth in enumerate(GROUPS.members):
        for t, predicted in enumerate(GROUPS.members):
            assert mass[h, t] == sum(int(matrix[i, j]) for i in truth for j in predicted if i != j)
    with pytest.raises(ConfigError):
        analysis.group_confusion(matrix[:3, :3], GROUPS)


def test_errors_by_group(matrix):
    errors = analysis.errors_by_group(matrix, GROUPS)
    fp = sum(g["FP"] for g in errors["groups"].values())
    fn = sum(g["FN"] for g in errors["groups"].values())
    assert fp == fn == int(matrix.sum() - matrix.trace())
    assert errors["mass"]["head"]["tail"] == int(matrix[:2, 4:].sum())
    assert errors["groups"]["tail"]["pixels"] == int(matrix[4:].sum())


def test_mean_accuracy_gives_the_false_negatives_where_sizes_are_equal():
    """The approximation of MEDOE Eq. 14 is exact without correlation within the group."""
    matrix = torch.tensor([[6, 4], [1, 9]])
    errors = analysis.errors_by_group(matrix, CategoryGroups.explicit({"all": [0, 1], "none": []}))
    assert errors["groups"]["all"]["FN_from_mAcc"] == pytest.approx(errors["groups"]["all"]["FN"])
    assert errors["groups"]["none"] == {"pixels": 0, "FP": 0, "FN": 0, "FN_from_mAcc": None}


def test_top_confusions_rank_by_share_of_the_true_class():
    matrix = torch.tensor([[900, 100, 0], [0, 50, 50], [1, 0, 3]])
    assert analysis.top_confusions(matrix, 10) == [[1, 2, 50, 100], [2, 0, 1, 4], [0, 1, 100, 1000]]
    assert analysis.top_confusions(matrix, 1) == [[1, 2, 50, 100]]
    assert analysis.top_confusions(torch.eye(2, dtype=torch.int64), 5) == []


def test_zero_one_bias():
    assert analysis.zero_one_bias(torch.tensor([[3, 1], [0, 2]])).tolist() == [0.25, 0]
    assert mean_iou(torch.tensor([[3, 1], [0, 2]])) == pytest.approx((3 / 4 + 2 / 3) / 2)
