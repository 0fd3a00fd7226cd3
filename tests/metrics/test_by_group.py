import math

import numpy as np
import pytest
import torch

from longtail.errors import ConfigError, DataError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.metrics.by_group import segmentation_prediction
from longtail.metrics.segmentation import accuracy_per_class, iou_per_class

GROUPS = CategoryGroups.explicit({"head": [0, 2], "body": [1], "tail": [3]})


def matrix() -> torch.Tensor:
    return torch.tensor([[90, 5, 5, 0], [3, 20, 0, 1], [10, 0, 70, 0], [1, 1, 0, 2]])


def frequency(num_classes: int = 4) -> ClassFrequency:
    return ClassFrequency(
        class_names=tuple(f"c{i}" for i in range(num_classes)),
        images=np.full(num_classes, 5),
        pixels=1000 // (1 + np.arange(num_classes)),
    )


def test_refuses_another_number_of_classes():
    with pytest.raises(ConfigError):
        segmentation_prediction(matrix()[:3, :3], GROUPS)


def test_prediction_holds_all_scores():
    bias = torch.tensor([0.1, 0.2, 0.3, math.nan], dtype=torch.float64)
    prediction = segmentation_prediction(matrix(), GROUPS, frequency(), bias=bias)
    assert prediction.overall["mIoU"] == pytest.approx(iou_per_class(matrix()).nanmean().item())
    assert prediction.overall["mAcc"] == pytest.approx(accuracy_per_class(matrix()).nanmean().item())
    assert prediction.overall["aAcc"] == pytest.approx(182 / 208)
    assert prediction.overall["bias"] == pytest.approx(0.2)
    assert prediction.groups["head"]["mIoU"] == pytest.approx(iou_per_class(matrix())[[0, 2]].mean().item())
    assert prediction.groups["tail"]["bias"] is None
    assert prediction.per_class["Acc"] == pytest.approx(accuracy_per_class(matrix()).tolist())
    assert prediction.per_class["bias_01"] == pytest.approx((1 - accuracy_per_class(matrix())).tolist())
    extra = prediction.extra
    assert extra["confusion"] == matrix().tolist()
    assert extra["uniform"]["overall"]["mAcc"] == pytest.approx(prediction.overall["mAcc"])
    assert extra["fp_fn_by_group"]["mass"]["head"]["body"] == 5
    assert extra["pearson"]["Acc"] == pytest.approx(
        np.corrcoef(frequency().share(), accuracy_per_class(matrix()).numpy())[0, 1]
    )
    assert extra["top_confusions"][0] == [3, 0, 1, 4]


def test_absent_classes_are_null_and_large_matrices_stay_out():
    big = torch.zeros(300, 300, dtype=torch.int64)
    big[0, 0] = 5
    prediction = segmentation_prediction(big, CategoryGroups.explicit({"all": list(range(300)), "none": []}))
    assert prediction.per_class["IoU"][1] is None
    assert prediction.groups["none"] == {"mIoU": None, "mAcc": None}
    assert "confusion" not in prediction.extra and "pearson" not in prediction.extra


def test_refuses_the_frequency_of_other_data():
    with pytest.raises(DataError, match="5 classes"):
        segmentation_prediction(matrix(), GROUPS, frequency(5))
