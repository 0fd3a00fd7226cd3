"""Detections of a data set as arrays."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.errors import DataError
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.read_detections import read_detections
from support.slow_detection import arrays, made, made_up


def test_top_per_image_keeps_the_first_of_equal_scores() -> None:
    detections = made([3, 3, 3, 3, 1], np.zeros((5, 4)), [0.5, 0.5, 0.5, 0.9, 0.1], range(5), list("abcde"))
    top = detections.top_per_image(2)
    assert top.labels.tolist() == [0, 3, 4] and top.masks == ["a", "d", "e"]


def test_files_of_detections(tmp_path: Path) -> None:
    content, detections = made_up(3)
    truth = DetectionTruth(content)
    first = arrays(truth, detections, tmp_path)
    first.to_json(tmp_path / "again.json", truth.category_ids)
    second = read_detections(tmp_path / "again.json", truth)
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.labels, second.labels)
    for bad, message in (
        ([{"image_id": 1}], r"detections\[0\] of .*bad\.json has no category_id"),
        ({"annotations": []}, "no list"),
        ([{**detections[0], "category_id": 1000}], "such as 1000"),
    ):
        (tmp_path / "bad.json").write_text(json.dumps(bad))
        with pytest.raises(DataError, match=message):
            read_detections(tmp_path / "bad.json", truth)


def test_collects_what_detectors_give() -> None:
    class Found:
        def __init__(self, n: int, masks: list | None) -> None:
            self.boxes, self.scores = torch.rand(n, 4), torch.rand(n)
            self.labels, self.masks = torch.arange(n), masks

    both = DetectionArrays.collect([7, 3], [Found(2, ["a", "b"]), Found(0, [])])
    assert both.image_ids.tolist() == [7, 7] and both.masks == ["a", "b"] and both.labels.tolist() == [0, 1]
    assert DetectionArrays.collect([7], [Found(1, None)]).masks is None
    assert len(DetectionArrays.collect([], [])) == 0
