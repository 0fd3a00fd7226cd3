import math

import numpy as np
import pytest
import torch

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.metrics import analysis
from longtail.metrics.segmentation import accuracy_per_class, iou_per_class

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


def test_uniform_is_what_masking_labels_tends_to(matrix):
    """The paper masks labels at random until all classes keep T pixels: each row is thinned by T / num_j."""
    expected = iou_per_class(analysis.uniform_confusion(matrix))
    rng, errors = np.random.default_rng(1), []
    for scale in (1, 10_000):
        counts = matrix.numpy() * scale
        kept = rng.binomial(counts, (counts.sum(1).min() / counts.sum(1))[:, None])
        errors.append((iou_per_class(torch.from_numpy(kept)) - expected).abs().max().item())
    assert errors[1] < 0.002 < errors[0]


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


def test_accuracy_and_iou_imply_the_false_positives(matrix):
    """MEDOE Eq. 12, 14 and 17, class by class; Eq. 16: TP growing by p and FP by p (num + FP) leaves the IoU."""
    each = analysis.errors_by_group(matrix, CategoryGroups.explicit({str(c): [c] for c in range(6)}))["groups"].values()
    num, hits, accuracy, iou = matrix.sum(1), matrix.diagonal(), accuracy_per_class(matrix), iou_per_class(matrix)
    wrong = torch.tensor([errors["FP"] for errors in each])
    torch.testing.assert_close((accuracy / iou - 1) * num, wrong.double())
    torch.testing.assert_close((1 - accuracy) * num, torch.tensor([errors["FN"] for errors in each]).double())
    assert [errors["FN_from_mAcc"] for errors in each] == pytest.approx([errors["FN"] for errors in each])
    p = 0.03
    torch.testing.assert_close((1 + p) * hits.double() / (num + wrong + p * (num + wrong)), iou)


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
