import json
import math

import pytest
import torch

from longtail.errors import DataError
from longtail.frequency import CategoryGroups
from longtail.metrics.by_group import segmentation_prediction
from longtail.metrics.results import SCHEMA, Prediction, Results, without_nan


def results(**changes) -> Results:
    groups = CategoryGroups.explicit({"head": [0], "body": [], "tail": [1, 2]})
    confusion = torch.tensor([[9, 1, 0], [2, 3, 0], [0, 0, 0]])
    record = {
        "task": "segmentation",
        "method": "medoe",
        "class_names": ["Straße", "b", "c"],
        "groups": groups.to_dict(),
        "predictions": {"medoe": segmentation_prediction(confusion, groups), "oracle": Prediction({"mIoU": math.nan})},
        "data": {"images": 3},
        "seed": 7,
    }
    return Results(**(record | changes))


def test_round_trip(tmp_path):
    first = results()
    first.save(tmp_path / "deep" / "results.json")
    again = Results.load(tmp_path / "deep" / "results.json")
    assert again.predictions["medoe"] == first.predictions["medoe"]
    assert again.own.extra["confusion"][0] == [9, 1, 0]
    assert again.predictions["oracle"].overall == {"mIoU": None}
    assert (again.class_names, again.groups, again.seed) == (first.class_names, first.groups, 7)
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "deep" / "results.json").read_text()


def test_undefined_values_are_null(tmp_path):
    results(settings={"a": [math.inf, {"b": math.nan}], "c": ()}).save(tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    record = json.loads(text)
    assert record["schema"] == SCHEMA
    assert record["settings"] == {"a": [None, {"b": None}], "c": []}
    assert record["predictions"]["medoe"]["per_class"]["IoU"][2] is None
    assert record["predictions"]["medoe"]["groups"]["body"] == {"mIoU": None, "mAcc": None}
    assert without_nan({1: -math.inf}) == {"1": None}


def test_matrices_take_a_line_a_row(tmp_path):
    text = results().to_json()
    assert "[9, 1, 0],\n" in text
    assert json.loads(text)["predictions"]["medoe"]["extra"]["confusion"] == [[9, 1, 0], [2, 3, 0], [0, 0, 0]]


def test_an_interrupted_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.json"
    results().save(path)
    before = path.read_text()
    with pytest.raises(TypeError):
        results(settings={"not json": object()}).save(path)
    assert path.read_text() == before


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        json.dumps({"schema": "longtail-results/0"}),
        json.dumps({"schema": SCHEMA}),
        json.dumps({"schema": SCHEMA, "predictions": {"a": {"overall": {}, "stray": 1}}}),
        json.dumps(json.loads(results().to_json()) | {"method": "absent"}),
    ],
)
def test_refuses_what_it_did_not_write(tmp_path, content):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"r\.json"):
        Results.load(path)
    with pytest.raises(DataError):
        Results.load(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"class_names": 3}, "class_names is 3, not a list of texts"),
        ({"groups": {"all": ["0"]}}, r"groups\.all\[0\] is '0', not a whole number"),
        ({"groups": {"all": [0]}}, "groups do not hold each of the 3 classes once"),
        ({"predictions": []}, r"predictions is \[\], not an object"),
        ({"seed": "1"}, "seed is '1', not a whole number or null"),
        ({"task": "pose"}, "task is 'pose', not one of"),
        ({"data": {"notes": "x"}}, r"data\.notes is 'x', not a list"),
    ],
)
def test_values_of_another_type_are_named(change, problem, tmp_path):
    path = tmp_path / "results.json"
    scores = {"overall": {"mIoU": 0.5}, "per_class": {"IoU": [0.5, None, 1]}}
    groups = {"all": [0, 1, 2]}
    good = {"schema": SCHEMA, "task": "segmentation", "method": "m", "class_names": ["a", "b", "c"], "groups": groups}
    path.write_text(json.dumps({**good, "predictions": {"m": scores}}))
    assert Results.load(path).own.per_class == scores["per_class"]
    path.write_text(json.dumps({**good, "predictions": {"m": scores}, **change}))
    with pytest.raises(DataError, match=rf"results\.json:? {problem}"):
        Results.load(path)
    for wrong in ({"overall": {"mIoU": "x"}}, {"overall": {}, "per_class": {"IoU": [1]}}):
        path.write_text(json.dumps({**good, "predictions": {"m": wrong}}))
        with pytest.raises(DataError, match=r"predictions\.m\."):
            Results.load(path)
