"""Scores image by image, written and read again."""

import numpy as np
import pytest

from longtail.errors import DataError
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.image_counts import ImageCounts
from longtail.metrics.image_matches import ImageMatches
from longtail.metrics.image_scores import ImageScores, load_image_scores, save_image_scores
from longtail.metrics.results import Results, images_file

WEIGHTS = np.array([[1, 2, 0], [1, 0, 2]], dtype=np.float32)


def detections(label=0):
    images = [{"id": i, "height": 50, "width": 50, "file_name": f"{i}.jpg"} for i in (3, 5)]
    boxes = [{"id": i, "image_id": i, "category_id": label, "bbox": [0, 0, 9, 9], "area": 81} for i in (3, 5)]
    truth = DetectionTruth(
        {"images": images, "annotations": boxes, "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]}
    )
    found = DetectionArrays(
        np.array([5, 3]), np.array([[0, 0, 9, 9], [20, 20, 30, 30]]), np.array([0.9, 0.8]), np.zeros(2)
    )
    return ImageScores({part: ImageMatches.match(truth, found) for part in ("", "mask_")})


def pixels(names=("x", "y")):
    counts = np.array([[[3, 2], [4, 2], [3, 3]], [[5, 0], [5, 2], [7, 0]]])
    return ImageScores({"": ImageCounts(names, counts)})


@pytest.mark.parametrize("scores", [detections(), pixels()])
def test_equal_after_a_file(scores, tmp_path):
    save_image_scores({"own / 1.0": scores, "other": scores}, tmp_path / "a.npz")
    again = load_image_scores(tmp_path / "a.npz")
    assert list(again) == ["own / 1.0", "other"] and again["other"].number == 2
    expected, found = scores.drawn(WEIGHTS), again["own / 1.0"].drawn(WEIGHTS)
    assert expected.keys() == found.keys()
    for metric, values in expected.items():
        np.testing.assert_array_equal(found[metric], values)
    assert not scores.differ_from(again["other"])


def test_what_cannot_be_paired_says_why():
    assert "2 images, or of others" in pixels().differ_from(pixels(("x", "z")))
    assert "other labels" in detections().differ_from(detections(label=1))
    assert "masks" in detections().differ_from(ImageScores({"": detections().parts[""]}))


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "a.npz"
    for content in (b"", b"PK", b"not arrays"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz"):
            load_image_scores(path)


def test_results_are_never_next_to_the_arrays_of_others(tmp_path):
    path = tmp_path / "results.json"
    results = Results("segmentation", "m", ["a", "b"], {"all": [0, 1]}, {}, images={"m": pixels()})
    results.save(path)
    assert images_file(path).is_file() and "images" not in path.read_text()
    results.images = {}
    results.save(path)
    assert not images_file(path).exists()
