"""Scores in draws of images against scores of literally repeated images."""

import numpy as np
import pytest

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_scorer import detection_prediction
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.draws import Draws, drawn_group_means, intervals_of
from longtail.metrics.image_counts import ImageCounts
from longtail.metrics.image_matches import ImageMatches

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


def all_draws(draws):
    return np.concatenate(list(draws), axis=1)


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_ap_of_a_draw_is_that_of_repeated_images(seed, federated):
    parts = case(seed, federated)
    matches = ImageMatches.match(*repeated(*parts, np.ones(IMAGES)))
    weights = all_draws(Draws(IMAGES, 12, seed))
    drawn = matches.drawn(weights)
    for place, times in enumerate(weights.T):
        expected = detection_prediction(*repeated(*parts, times), fixed=False, pooled=False).per_class
        for metric in ("AP", "AP50"):
            np.testing.assert_allclose(drawn[metric][:, place], np.array(expected[metric], dtype=float), atol=1e-6)


def test_every_image_once_is_the_score_itself():
    truth, found = repeated(*case(5), np.ones(IMAGES))
    expected = detection_prediction(truth, found, fixed=False, pooled=False).per_class
    drawn = ImageMatches.match(truth, found).drawn(np.ones((IMAGES, 1), dtype=np.float32))
    for metric in ("AP", "AP50"):
        np.testing.assert_allclose(drawn[metric][:, 0], np.array(expected[metric], dtype=float), atol=1e-7)


def test_iou_of_a_draw_by_hand():
    # image 0: class 0 has 2 right of 3 true and 4 predicted, class 1 nothing; image 1: class 1 1 right of 1 and 2
    counts = np.array([[[2, 0], [3, 0], [4, 0]], [[0, 1], [0, 1], [0, 2]]])
    weights = np.array([[1, 2, 0], [1, 0, 2]], dtype=np.float32)
    drawn = ImageCounts(("a", "b"), counts).drawn(weights)
    np.testing.assert_allclose(drawn["mIoU"], [[2 / 5, 2 / 5, np.nan], [1 / 2, np.nan, 1 / 2]])
    np.testing.assert_allclose(drawn["mAcc"], [[2 / 3, 2 / 3, np.nan], [1, np.nan, 1]])


def test_draws_are_paired_by_seed_and_complete():
    first = all_draws(Draws(20, 1000, seed=3))
    assert first.shape == (20, 1000)
    assert np.array_equal(first, all_draws(Draws(20, 1000, seed=3)))
    assert not np.array_equal(first, all_draws(Draws(20, 1000, seed=4)))
    assert (first.sum(axis=0) == 20).all()
    assert first.mean(axis=1) == pytest.approx(np.ones(20), abs=0.15)
    with pytest.raises(ConfigError, match="0 images"):
        Draws(0)


def test_means_of_groups_leave_out_what_a_draw_has_not():
    values = np.array([[0.2, np.nan], [0.4, 0.6], [np.nan, np.nan]])
    groups = CategoryGroups.explicit({"rare": [0, 1], "frequent": [2]})
    (means,) = drawn_group_means([lambda weights: {"AP": values}], groups, Draws(3, 2))
    np.testing.assert_allclose(means["AP"], [[0.3, 0.3, np.nan], [0.6, 0.6, np.nan]])


def test_intervals_of_differences():
    groups = CategoryGroups.explicit({"rare": [0], "frequent": [1, 2]})
    base = np.random.default_rng(0).uniform(size=(1000, 3))  # all, rare, frequent
    better = base + np.array([0.1, 0.2, 0.0])
    intervals = intervals_of(better, groups, base)
    assert intervals["rare"].mean == pytest.approx(0.2) and intervals["rare"].told_from_chance
    assert intervals["rare"].above == 1 and not intervals["frequent"].told_from_chance
    assert intervals["all"].mean == pytest.approx(0.1)
    alone = intervals_of(base, groups)["rare"]
    assert alone.low == pytest.approx(0.025, abs=0.02) and alone.high == pytest.approx(0.975, abs=0.02)
    base[:, 1] = np.nan  # no object of the class in any draw
    assert "rare" not in intervals_of(base, groups)
    with pytest.raises(ConfigError, match="same images"):
        intervals_of(base, groups, base[:10])
