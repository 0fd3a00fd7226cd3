"""Scores in draws of images against scores of literally repeated images."""

import numpy as np
import pytest

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.metrics.bootstrap import ImageMatches, drawn_iou, draws, group_intervals
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_scorer import detection_prediction
from longtail.metrics.detection_truth import DetectionTruth

CLASSES, IMAGES = 3, 7


def case(seed, federated=False):
    """Objects and detections of a few images, as rows (image, class, xywh) and (image, class, score, xywh)."""
    draw = np.random.default_rng(seed)
    objects, rows = [], []
    for image in range(IMAGES):
        for _ in range(draw.integers(0, 4)):
            box = (*draw.integers(0, 60, 2).astype(float), *draw.integers(10, 40, 2).astype(float))
            objects.append((image, int(draw.integers(CLASSES)), box))
        for label, box in [(c, b) for i, c, b in objects if i == image for _ in range(2)]:
            moved = np.array(box) + draw.normal(0, 4, 4)
            rows.append((image, label if draw.random() < 0.8 else int(draw.integers(CLASSES)), draw.random(), moved))
    extra = {"neg_category_ids": [1], "not_exhaustive_category_ids": [2]} if federated else {}
    return objects, rows, extra


def repeated(objects, rows, extra, times):
    """Annotations and detections in which image i occurs ``times[i]`` times under ids of their own."""
    copies = [(image, n) for image, count in enumerate(times) for n in range(int(count))]
    ids = {copy: place + 1 for place, copy in enumerate(copies)}
    images = [{"id": i, "height": 100, "width": 100, "file_name": f"{i}.jpg", **extra} for i in ids.values()]
    annotations, found = [], []
    for (image, _), identity in ids.items():
        for _, label, box in (o for o in objects if o[0] == image):
            area = box[2] * box[3]
            record = {"id": len(annotations) + 1, "image_id": identity, "category_id": label + 1, "bbox": list(box)}
            annotations.append({**record, "area": area, "iscrowd": 0})
        found += [(identity, *row[1:]) for row in rows if row[0] == image]
    categories = [{"id": c + 1, "name": f"class {c}"} for c in range(CLASSES)]
    truth = DetectionTruth({"images": images, "annotations": annotations, "categories": categories})
    boxes = np.array([row[3] for row in found]).reshape(-1, 4)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 1) + boxes[:, :2]
    column = [np.array([row[k] for row in found]) for k in range(3)]
    return truth, DetectionArrays(column[0], boxes, column[2], column[1])


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_ap_of_a_draw_is_that_of_repeated_images(seed, federated):
    parts = case(seed, federated)
    matches = ImageMatches.match(*repeated(*parts, np.ones(IMAGES)))
    drawn = draws(IMAGES, 12, seed)
    ap = matches.drawn_ap(drawn)
    for times, values in zip(drawn, ap, strict=True):
        expected = detection_prediction(*repeated(*parts, times), fixed=False, pooled=False).per_class["AP"]
        np.testing.assert_allclose(values, np.array(expected, dtype=float), atol=1e-6)


def test_every_image_once_is_the_score_itself():
    truth, found = repeated(*case(5), np.ones(IMAGES))
    ap50 = ImageMatches.match(truth, found).drawn_ap(np.ones((1, IMAGES), dtype=np.float32), thresholds=1)
    expected = detection_prediction(truth, found, fixed=False, pooled=False).per_class["AP50"]
    np.testing.assert_allclose(ap50[0], np.array(expected, dtype=float), atol=1e-7)


def test_iou_of_a_draw_by_hand():
    # image 0: class 0 has 2 right of 3 true and 4 predicted, class 1 nothing; image 1: class 1 1 right of 1 and 2
    counts = np.array([[[2, 0], [3, 0], [4, 0]], [[0, 1], [0, 1], [0, 2]]])
    drawn = np.array([[1, 1], [2, 0], [0, 2]], dtype=np.float32)
    np.testing.assert_allclose(drawn_iou(counts, drawn), [[2 / 5, 1 / 2], [2 / 5, np.nan], [np.nan, 1 / 2]])


def test_draws_are_paired_by_seed_and_complete():
    first = draws(20, 50, seed=3)
    assert np.array_equal(first, draws(20, 50, seed=3)) and not np.array_equal(first, draws(20, 50, seed=4))
    assert (first.sum(axis=1) == 20).all()
    with pytest.raises(ConfigError, match="0 images"):
        draws(0)


def test_intervals_of_differences():
    groups = CategoryGroups.explicit({"rare": [0], "frequent": [1, 2]})
    base = np.random.default_rng(0).uniform(size=(1000, 3))
    better = base + np.array([0.2, 0.0, 0.0])
    intervals = group_intervals(better, groups, base)
    assert intervals["rare"].mean == pytest.approx(0.2) and intervals["rare"].told_from_chance
    assert intervals["rare"].above == 1 and not intervals["frequent"].told_from_chance
    assert intervals["all"].mean == pytest.approx(0.2 / 3)
    alone = group_intervals(base, groups)["rare"]
    assert alone.low == pytest.approx(0.025, abs=0.02) and alone.high == pytest.approx(0.975, abs=0.02)
    base[:, 0] = np.nan  # no object of the class in any draw
    assert "rare" not in group_intervals(base, groups)
    with pytest.raises(ConfigError, match="same images"):
        group_intervals(base, groups, base[:10])
