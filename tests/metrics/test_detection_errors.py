"""Kinds of errors against values by hand and a plain-Python reference of TIDE."""

import numpy as np
import pytest

from longtail.errors import ConfigError
from longtail.frequency import CategoryGroups
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_errors import KINDS, detection_errors
from longtail.metrics.detection_scorer import detection_prediction
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.matches import average_precision


def truth_of(objects, classes=2, images=1, **extra):
    annotations = [
        {"id": n + 1, "image_id": i, "category_id": c + 1, "bbox": list(box), "area": box[2] * box[3], "iscrowd": crowd}
        for n, (i, c, box, crowd) in enumerate(objects)
    ]
    pictures = [{"id": i, "height": 200, "width": 200, "file_name": f"{i}.jpg", **extra} for i in range(1, images + 1)]
    categories = [{"id": c + 1, "name": f"class {c}"} for c in range(classes)]
    return DetectionTruth({"images": pictures, "annotations": annotations, "categories": categories})


def found(rows):
    """Detections from rows (image, class, score, xywh)."""
    boxes = np.array([box for *_, box in rows], dtype=float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    images, classes, scores = zip(*(row[:3] for row in rows), strict=True)
    return DetectionArrays(np.array(images), boxes, np.array(scores), np.array(classes))


def counts(errors):
    return {kind: values.tolist() for kind, values in errors.counts.items() if values.any()}


BOX, FAR = (0.0, 0.0, 10.0, 10.0), (100.0, 100.0, 10.0, 10.0)


@pytest.mark.parametrize(
    ("row", "expected", "cost"),
    [
        # half of the box: IoU 0.5, of which TIDE says "right"; less is a localisation error, mended it is right
        ((1, 0, 0.9, (0, 0, 10, 4)), {"localisation": [1, 0]}, {"localisation": 1.0}),
        # the other class: mended it is right in class 0
        ((1, 1, 0.9, BOX), {"classification": [0, 1]}, {"classification": 1.0}),
        # neither class nor place; removing it helps nobody, and the object is missed
        ((1, 1, 0.9, (0, 0, 10, 4)), {"both": [0, 1], "missed": [1, 0]}, {"missed": 1.0}),
        ((1, 0, 0.9, FAR), {"background": [1, 0], "missed": [1, 0]}, {"missed": 1.0}),
    ],
)
def test_one_detection_of_one_object(row, expected, cost):
    errors = detection_errors(truth_of([(1, 0, BOX, 0)]), found([row]))
    assert counts(errors) == expected
    assert errors.ap[0] == 0 and np.isnan(errors.ap[1])
    for kind in KINDS:
        assert errors.cost[kind][0] == pytest.approx(cost.get(kind, 0.0))


def test_a_duplicate_before_the_second_object_costs_precision():
    objects = [(1, 0, BOX, 0), (1, 0, FAR, 0)]
    rows = [(1, 0, 0.9, BOX), (1, 0, 0.8, BOX), (1, 0, 0.7, FAR)]
    errors = detection_errors(truth_of(objects), found(rows))
    assert counts(errors) == {"duplicate": [1, 0]}
    # precision 1 up to recall 1/2 (51 of 101 points), then 2/3
    assert errors.ap[0] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert errors.cost["duplicate"][0] == pytest.approx(1 - errors.ap[0])


def test_the_best_error_of_a_free_object_is_mended_alone():
    rows = [(1, 1, 0.9, BOX), (1, 0, 0.8, (0, 0, 10, 4))]
    errors = detection_errors(truth_of([(1, 0, BOX, 0)]), found(rows))
    assert counts(errors) == {"classification": [0, 1], "localisation": [1, 0]}
    assert errors.cost["classification"][0] == 1  # right in class 0, ahead of the badly placed one
    assert errors.cost["localisation"][0] == 0  # the object is mended by the other error
    assert errors.confused.tolist() == [[1, 0, 1]]


def test_crowds_and_classes_nobody_looked_for_count_nowhere():
    crowd = detection_errors(truth_of([(1, 0, BOX, 1), (1, 0, FAR, 0)]), found([(1, 0, 0.9, BOX), (1, 0, 0.8, FAR)]))
    assert counts(crowd) == {} and crowd.ap[0] == 1
    listed = truth_of([(1, 0, BOX, 0)], neg_category_ids=[], not_exhaustive_category_ids=[])
    assert counts(detection_errors(listed, found([(1, 1, 0.9, FAR), (1, 0, 0.8, BOX)]))) == {}
    negative = truth_of([(1, 0, BOX, 0)], neg_category_ids=[2], not_exhaustive_category_ids=[])
    assert counts(detection_errors(negative, found([(1, 1, 0.9, FAR), (1, 0, 0.8, BOX)]))) == {"background": [0, 1]}


def test_thresholds_are_checked():
    with pytest.raises(ConfigError, match=r"0\.6 and 0\.5"):
        detection_errors(truth_of([(1, 0, BOX, 0)]), found([(1, 0, 1.0, BOX)]), background=0.6)


def random_case(seed, images=6, classes=4):
    draw = np.random.default_rng(seed)
    objects, rows = [], []
    for image in range(1, images + 1):
        for _ in range(draw.integers(0, 5)):
            box = (*draw.integers(0, 60, 2).astype(float), *draw.integers(10, 40, 2).astype(float))
            label = int(draw.integers(classes))
            objects.append((image, label, box, 0))
            for _ in range(draw.integers(0, 4)):
                moved = np.array(box) + draw.normal(0, draw.choice([1, 6, 14]), 4)
                moved[2:] = np.maximum(moved[2:], 3)
                claimed = label if draw.random() < 0.7 else int(draw.integers(classes))
                rows.append((image, claimed, float(draw.random()), tuple(moved)))
        rows.append((image, int(draw.integers(classes)), float(draw.random()), (70.0, 70.0, 20.0, 20.0)))
    return objects, rows, images, classes


def overlap(a, b):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def reference(objects, rows, images, classes):
    """Kinds and AP after mending, an object and a detection at a time."""
    rows = sorted(rows, key=lambda row: -row[2])
    taken, pointed, kinds = {}, {}, {}
    for d, (image, label, _, box) in enumerate(rows):
        free = [(overlap(box, o[2]), -n) for n, o in enumerate(objects) if o[:2] == (image, label) and n not in taken]
        if free and max(free)[0] >= 0.5:
            taken[-max(free)[1]] = d
    for d, (image, label, _, box) in enumerate(rows):
        if d in taken.values():
            continue
        own = [(overlap(box, o[2]), n) for n, o in enumerate(objects) if o[:2] == (image, label)]
        other = [(overlap(box, o[2]), n) for n, o in enumerate(objects) if o[0] == image and o[1] != label]
        if own and 0.1 <= max(own)[0] <= 0.5:
            kinds[d], pointed[d] = "localisation", max(own)[1]
        elif other and max(other)[0] >= 0.5:
            kinds[d], pointed[d] = "classification", max(other)[1]
        elif any(iou >= 0.5 and n in taken for iou, n in own):
            kinds[d] = "duplicate"
        elif not own + other or max(own + other)[0] <= 0.1:
            kinds[d] = "background"
        else:
            kinds[d] = "both"
    mended = {}
    for d in sorted(pointed):  # best score first
        if pointed[d] not in taken and pointed[d] not in [pointed[m] for m in mended]:
            mended[d] = objects[pointed[d]][1]
    missed = [n for n in range(len(objects)) if n not in taken and n not in pointed.values()]

    def ap(label, kind=None):
        hits = []
        for d, row in enumerate(rows):
            if kinds.get(d, "right") != kind:
                hits += [d in taken.values()] if row[1] == label else []
            elif mended.get(d) == label:
                hits.append(True)
        positives = sum(o[1] == label for o in objects)
        left = positives - (sum(objects[n][1] == label for n in missed) if kind == "missed" else 0)
        if positives and not left:
            return 1.0
        return average_precision(np.array(hits, dtype=bool), left) if positives else np.nan

    return kinds, missed, {kind: [ap(c, kind) for c in range(classes)] for kind in (None, *KINDS)}


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_plain_reference(seed):
    objects, rows, images, classes = random_case(seed)
    kinds, missed, ap = reference(objects, rows, images, classes)
    errors = detection_errors(truth_of(objects, classes, images), found(rows))
    for kind in KINDS[:-1]:
        assert errors.counts[kind].sum() == sum(value == kind for value in kinds.values())
        np.testing.assert_allclose(errors.ap + errors.cost[kind], ap[kind], atol=1e-12)
    assert errors.counts["missed"].sum() == len(missed)
    np.testing.assert_allclose(errors.ap, ap[None], atol=1e-12)
    np.testing.assert_allclose(errors.ap + errors.cost["missed"], ap["missed"], atol=1e-12)


def test_ap_is_the_scorers_ap50_and_groups_are_means():
    objects, rows, images, classes = random_case(3)
    truth, groups = truth_of(objects, classes, images), CategoryGroups.explicit({"rare": [0, 2], "frequent": [1, 3]})
    errors = detection_errors(truth, found(rows))
    np.testing.assert_allclose(np.nanmean(errors.ap), detection_prediction(truth, found(rows)).overall["AP50"])
    by_group = errors.by_group(groups)
    assert by_group["rare"]["missed"] == pytest.approx(np.nanmean(errors.cost["missed"][[0, 2]]))
    assert errors.overall()["missed"] == pytest.approx(np.nanmean(errors.cost["missed"]))


def test_a_crowd_swallows_what_meets_the_positive_threshold():
    objects, rows = [(1, 0, BOX, 1), (1, 0, FAR, 0)], [(1, 0, 0.9, (0, 0, 20, 10)), (1, 0, 0.8, FAR)]
    truth, detections = truth_of(objects), found(rows)  # half of the first detection lies in the crowd
    assert counts(detection_errors(truth, detections)) == {}
    assert counts(detection_errors(truth, detections, positive=0.6)) == {"background": [1, 0]}
