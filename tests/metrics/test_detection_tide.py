"""Errors against the ``tidecv`` package, on the LVIS sample and on made-up boxes."""

import contextlib
import importlib.util
import io
import os
import sys
import unittest.mock
from pathlib import Path

import numpy as np
import pytest

from longtail.metrics.detection_errors import detection_errors
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.read_detections import read_detections
from metrics.test_detection_errors import found, random_case, truth_of

# only its plots need these
absent = [name for name in ("appdirs", "cv2", "seaborn") if importlib.util.find_spec(name) is None]
with unittest.mock.patch.dict(sys.modules, {name: unittest.mock.MagicMock() for name in absent}):
    tidecv = pytest.importorskip("tidecv", reason="tidecv is not installed", exc_type=ImportError)
SAMPLE = Path(os.environ.get("LONGTAIL_DATA", "../shared/data")) / "lvis_sample"
GRID = 0.02  # points: tidecv asks for recall 7/100, COCO for linspace's, which may round to the other side of a hit
NAMES = {
    "Cls": "classification",
    "Loc": "localisation",
    "Both": "both",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}


def by_tide(truth, detections):
    """Number of errors of every kind, and their cost in points of AP, by tidecv."""
    objects, answers = (tidecv.Data(name, max_dets=10**6) for name in ("objects", "found"))
    everything = truth.objects(np.arange(len(truth.image_ids)), with_masks=False)
    for place in range(len(truth.image_ids)):
        objects.add_image(int(place), str(place))
    for label, name in enumerate(truth.class_names):
        objects.add_class(label, name)
        answers.add_class(label, name)
    for place, label, box in zip(
        everything.images.tolist(), everything.labels.tolist(), everything.boxes.tolist(), strict=True
    ):
        objects.add_ground_truth(place, label, box)
    places = truth.places(detections.image_ids).tolist()
    for place, label, score, box in zip(
        places, detections.labels.tolist(), detections.scores.tolist(), detections.xywh.tolist(), strict=True
    ):
        answers.add_detection(place, label, score, box)
    with contextlib.redirect_stdout(io.StringIO()):
        run = tidecv.TIDE().evaluate(objects, answers, pos_threshold=0.5, mode=tidecv.TIDE.BOX)
        cost = {NAMES[kind.short_name]: value for kind, value in run.fix_main_errors().items()}
    counts = {NAMES[kind.short_name]: len(errors) for kind, errors in run.error_dict.items()}
    return run.ap, counts, cost


def compare(truth, detections):
    ap, counts, cost = by_tide(truth, detections)
    errors = detection_errors(truth, detections, federated=False, max_detections=0)
    assert {kind: int(values.sum()) for kind, values in errors.counts.items()} == counts
    assert 100 * np.nanmean(errors.ap) == pytest.approx(ap, abs=GRID)
    return errors, cost


@pytest.mark.parametrize("seed", range(4))
def test_made_up_boxes(seed):
    objects, rows, images, classes = random_case(seed, images=12, classes=3)
    errors, cost = compare(truth_of(objects, classes, images), found(rows))
    for kind, value in errors.overall().items():
        assert 100 * value == pytest.approx(cost[kind], abs=GRID), kind


def test_lvis_sample():
    if not SAMPLE.is_dir():
        pytest.skip("the LVIS sample is absent")
    truth = DetectionTruth(SAMPLE / "lvis_val_100.json")
    detections = read_detections(SAMPLE / "detections.json", truth)
    # tidecv's mean counts a class without objects as AP 0 as long as it has detections: leave these out
    errors, cost = compare(truth, detections[np.isin(detections.labels, truth.file.labels)])
    for kind, value in errors.overall().items():
        if kind != "missed":  # a class that is never found costs its whole AP here, and nothing there
            assert 100 * value == pytest.approx(cost[kind], abs=GRID), kind
