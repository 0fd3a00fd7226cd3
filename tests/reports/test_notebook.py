"""Data frames and axes of results at hand."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from longtail.errors import DataError
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_diagnosis import DetectionDiagnosis
from longtail.metrics.detection_scorer import detection_prediction
from longtail.metrics.score_detections import results_of
from longtail.reports import notebook
from metrics.test_detection_errors import found, random_case, truth_of
from support.fake_runs import make_results, write_run


@pytest.fixture(scope="module")
def results():
    objects, rows, images, classes = random_case(1, images=12)
    truth, detections = truth_of(objects, classes, images), found(rows)
    prediction = detection_prediction(truth, detections)
    diagnosis = DetectionDiagnosis(truth, ("bbox",), {})
    for image in truth.image_ids.tolist():
        diagnosis.update([image], detections[detections.image_ids == image])
    scores = diagnosis.complete(prediction, truth.groups)
    made = results_of(truth, {"mine": prediction}, truth.groups, None, ("bbox",), {})
    made.images = {"mine": scores}
    return made


def test_frames_have_the_numbers_of_the_results(results):
    pytest.importorskip("pandas")
    frames = notebook.frames(notebook.load(results))
    assert {"classes", "groups", "overall", "errors_by_class", "errors_by_group", "thresholds", "intervals"} <= set(
        frames
    )
    cost = results.own.extra["errors"]["cost"]["missed"]
    table = frames["errors_by_class"].set_index("class")["AP50 lost to missed"]
    for place, name in enumerate(results.class_names):
        assert table[name] == pytest.approx(cost[place])
    assert frames["intervals"]["all"][0] == pytest.approx(results.own.overall["AP"])


@pytest.mark.parametrize("draw", [notebook.errors, notebook.precision, notebook.f1])
def test_axes_are_drawn_new_or_into_ones_given(results, draw):
    runs = notebook.load(results)
    assert draw(runs).has_data()
    figure, axes = plt.subplots()
    assert draw(runs, axes) is axes and axes.has_data()
    plt.close(figure)


def test_results_at_hand_stand_next_to_those_of_a_folder(tmp_path):
    folder = write_run(tmp_path / "a", make_results("medoe", 5))
    both = notebook.load(folder, make_results("medoe", 5))
    assert [run.label for run in both.runs] == ["MEDOE", "MEDOE 2"]


def test_what_is_missing_is_said():
    runs = notebook.load(make_results("medoe", 5))
    with pytest.raises(DataError, match="no flows"):
        notebook.flows(runs)


def test_pieces_give_what_the_whole_gives(results):
    objects, rows, images, classes = random_case(1, images=12)
    truth, detections = truth_of(objects, classes, images), found(rows)
    whole = detection_prediction(truth, detections)
    diagnosis = DetectionDiagnosis(truth, ("bbox",), {})
    diagnosis.update(truth.image_ids.tolist(), detections)
    scores = diagnosis.complete(whole, truth.groups)
    assert whole.extra["errors"] == results.own.extra["errors"] or np.allclose(
        whole.extra["errors"]["cost"]["missed"], results.own.extra["errors"]["cost"]["missed"], equal_nan=True
    )
    assert not scores.differ_from(results.images["mine"])
    empty = DetectionDiagnosis(truth, ("bbox",), {})
    empty.update([], DetectionArrays.collect([], []))
    nothing = detection_prediction(truth, DetectionArrays.collect([], []))
    empty.complete(nothing, truth.groups)
    assert sum(nothing.extra["errors"]["counts"]["missed"]) == len(objects)
