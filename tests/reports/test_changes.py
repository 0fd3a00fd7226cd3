import json

import numpy as np
import pytest
import torch
from PIL import Image

from longtail.detection.drawing import to_record
from longtail.detection.method import Detections
from longtail.errors import DataError
from longtail.reports.changes import changed_rows, class_weights, matched
from longtail.reports.comparison import Comparison
from support.fake_runs import make_detection_results, write_run

SIZE = (60, 80)
#: Name of an image -> (box, class) of its objects.
OBJECTS = {
    "frequent": [((0, 0, 20, 20), 0), ((30, 0, 50, 20), 0)],
    "rare": [((0, 0, 20, 20), 38)],
    "rarer": [((0, 0, 20, 20), 38)],
    "same": [((0, 0, 20, 20), 1)],
}


def objects(entries, scores=None) -> Detections:
    boxes = torch.tensor([box for box, _ in entries], dtype=torch.float32).reshape(-1, 4)
    given = torch.full((len(entries),), torch.nan) if scores is None else torch.tensor(scores)
    return Detections(boxes, given, torch.tensor([c for _, c in entries], dtype=torch.int64), SIZE)


def test_what_is_found_and_what_is_right():
    truth = objects([((0, 0, 20, 20), 3), ((10, 0, 30, 20), 3), ((40, 40, 60, 60), 5)])
    seen = [((1, 0, 21, 20), 3), ((0, 0, 20, 20), 3), ((40, 40, 60, 60), 4), ((44, 40, 64, 60), 5), ((9, 0, 29, 20), 3)]
    found, right = matched(truth, objects(seen, [0.9, 0.8, 0.7, 0.6, 0.5]))
    # the second one comes too late for the first object and overlaps the other by a third; the third is of another class
    assert found.tolist() == [True, True, True] and right.tolist() == [True, False, False, True, True]
    assert [part.tolist() for part in matched(truth, objects([], []))] == [[False] * 3, []]
    assert [part.tolist() for part in matched(objects([]), objects(seen, [0.1] * 5))] == [[], [False] * 5]


def run(folder, method: str, found: dict[str, list[int]]):
    """A run that finds these objects (by place) of each image, and a wrong one in each."""
    write_run(folder, make_detection_results(method))
    pictures = folder / "pictures"
    pictures.mkdir()
    kept = {}
    for name, truth in OBJECTS.items():
        Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(pictures / f"{name}.input.jpg")
        seen = [*(truth[place] for place in found.get(name, ())), ((50, 40, 70, 55), 2)]
        kept[name] = {"truth": to_record(objects(truth)), method: to_record(objects(seen, [0.5] * len(seen)))}
    palette = [[5 * c, 0, 99] for c in range(39)]
    (pictures / "index.json").write_text(json.dumps({"images": [], "palette": palette}))
    (pictures / "objects.json").write_text(json.dumps(kept))
    return folder


def test_images_by_what_changed_rare_classes_weighing_more(tmp_path):
    before = run(tmp_path / "a", "cascade", {"frequent": [0, 1], "same": [0]})
    after = run(tmp_path / "b", "mec", {"rare": [0], "rarer": [0], "same": [0]})  # the second shows nothing new
    comparison = Comparison.load([before, after])
    weights = class_weights(comparison)
    assert weights[38] > 10 * weights[0]
    gains, losses = changed_rows(comparison)
    assert [row.name for row in gains] == ["rare"] and [row.name for row in losses] == ["frequent"]
    assert [heading for heading, _ in gains[0].pictures] == ["Truth", "Cascade", "MEC"]
    assert [(s.name, s.group) for s in gains[0].classes] == [("found: thing 38", "rare")]
    assert [s.name for s in losses[0].classes] == ["lost: thing 0 ×2"]
    back = changed_rows(Comparison.load([after, before]))
    assert [[row.name for row in rows] for rows in back] == [["frequent"], ["rare"]]


def test_runs_that_kept_nothing(tmp_path):
    before = write_run(tmp_path / "a", make_detection_results("cascade"))
    after = run(tmp_path / "b", "mec", {})
    assert changed_rows(Comparison.load([before, after])) == ([], [])
    assert changed_rows(Comparison.load([after])) == ([], [])


@pytest.mark.parametrize("text", ["{", "3", '{"../../secret": {}}'])
def test_altered_records_are_refused(tmp_path, text):
    before, after = run(tmp_path / "a", "cascade", {}), run(tmp_path / "b", "mec", {})
    (after / "pictures/objects.json").write_text(text)
    with pytest.raises(DataError, match=r"objects\.json"):
        changed_rows(Comparison.load([before, after]))
