"""Scores of masks, and masks that cannot be scored."""

from pathlib import Path

import pytest

from longtail.errors import ConfigError, DataError
from longtail.metrics.detection_scorer import detection_prediction
from longtail.metrics.detection_truth import DetectionTruth
from support.slow_detection import arrays, evaluate, made, made_up


def test_masks_are_needed_for_mask_scores() -> None:
    content, _ = made_up(0)
    with pytest.raises(ConfigError, match="masks"):
        evaluate(DetectionTruth(content), made([5], [[0, 0, 9, 9]], [0.5], [0]), "segm")


SQUARE = [[10, 10, 30, 10, 30, 25, 10, 25]]


def test_polygons_are_masks_of_detections_with_and_without_boxes(tmp_path: Path) -> None:
    content, _ = made_up(0)
    known = {"id": 1, "image_id": 5, "category_id": 2, "bbox": [10, 10, 20, 15], "area": 300, "segmentation": SQUARE}
    truth = DetectionTruth({**content, "annotations": [known]})
    found = arrays(truth, [{"image_id": 5, "category_id": 2, "score": 1, "segmentation": SQUARE}], tmp_path)
    assert found.boxes.tolist() == [[10, 10, 30, 25]]
    scores = detection_prediction(truth, found, iou_types=("bbox", "segm"))
    assert [scores.overall[m] for m in ("AP", "mask_AP", "mask_AP_fixed")] == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"size": [200, 200], "counts": "zzz~~"}, "mask of detection 0: the run lengths cover 78 pixels of 40000"),
        ({"size": [200, 200], "counts": [5, 5]}, "cover 10 pixels"),
        ([[1, 2, 3, 4]], "polygons of 4 numbers"),
        (
            {"size": [100, 400], "counts": [40000]},
            r"mask of detection 0: the mask is of size \[100, 400\], its image of \[200, 200\]",
        ),
    ],
)
def test_refuses_masks_of_detections_that_cannot_be_scored(mask: object, message: str, tmp_path: Path) -> None:
    truth = DetectionTruth(made_up(0)[0])
    with pytest.raises(DataError, match=message):
        found = arrays(truth, [{"image_id": 5, "category_id": 2, "score": 1, "segmentation": mask}], tmp_path)
        detection_prediction(truth, found, iou_types=("segm",))
