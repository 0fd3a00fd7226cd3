"""Annotations and detections: damaged files are refused, or score what pycocotools scores on them."""

import contextlib
import copy
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fuzz.harness import Outcome, Tally, run, write_mutated
from longtail.metrics.results import Results

SQUARE = [10, 10, 50, 10, 50, 40, 10, 40]


def truth() -> dict[str, Any]:
    shapes = [(1, 3, [10, 10, 40, 30]), (1, 5, [20, 20, 20, 20]), (7, 3, [5, 5, 50, 60]), (7, 5, [60, 60, 30, 20])]
    return {
        "info": {"year": 2024, "version": "1"},
        "licenses": [{"id": 1, "name": "CC"}],
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 100, "height": 100, "license": 1, "date_captured": ""}
            for i in (1, 7, 9)
        ],
        "categories": [{"id": c, "name": f"class {c}", "supercategory": "all"} for c in (3, 5)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n, (i, c, box) in enumerate(shapes, start=1)
        ],
    }


def detections() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "bbox": [float(v + n) for v in a["bbox"]],
            "score": round(float(rng.random()), 3),
        }
        for a in truth()["annotations"]
        for n in (0, 2, 8)
    ]


def reference(annotations: dict[str, Any], found: list[dict[str, Any]]) -> list[float]:
    """AP, AP50, AP75 and those of the sizes by pycocotools, which takes the annotation id 0 for no object."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = copy.deepcopy(annotations)
    known = COCO()
    known.imgs = {image["id"]: image for image in annotations["images"]}
    for number, annotation in enumerate(annotations.get("annotations", ()), start=1):
        annotation["id"] = number
        if annotation.get("area") is None:  # that of the mask, without one that of the box
            area = annotation["bbox"][2] * annotation["bbox"][3]
            annotation["area"] = known.annToMask(annotation).sum() if annotation.get("segmentation") else area
        annotation.setdefault("iscrowd", 0)
    with contextlib.redirect_stdout(io.StringIO()):
        known.dataset = annotations
        known.createIndex()
        results = known.loadRes(copy.deepcopy(found)) if found else COCO()
        evaluation = COCOeval(known, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:6].tolist()


def check(outcome: Outcome, word: str, folder: Path) -> None:
    """What was accepted is what the reference says; -1 is its undefined."""
    if not outcome.accepted:
        return
    given = [json.loads((folder / name).read_text(encoding="utf-8-sig")) for name in ("truth.json", "found.json")]
    if any(annotation.get("bbox") is None for annotation in given[0].get("annotations", ())):
        return  # made from the mask, of which pycocotools knows nothing
    own = Results.load(folder / "results.json").own.overall
    ours = [-1.0 if own[name] is None else own[name] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")]
    if given[1]:  # pycocotools cannot load an empty list
        np.testing.assert_allclose(ours, reference(*given), atol=1e-9, err_msg=word)
    else:
        assert max(ours) == 0, word


@pytest.mark.parametrize("rounds", [50, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["truth.json", "found.json"])
def test_annotations_and_detections(name: str, rounds: int, tmp_path: Path) -> None:
    files, rng, tally = {"truth.json": truth(), "found.json": detections()}, random.Random(name), Tally()
    words = ["score", "detection", "--annotations", str(tmp_path / "truth.json"), "--detections"]
    words += [str(tmp_path / "found.json"), "--out", str(tmp_path / "results.json")]
    for file, content in files.items():
        (tmp_path / file).write_text(json.dumps(content))
    first = run(words)
    assert first.accepted and not first.warned
    check(first, "as it was", tmp_path)
    for _ in range(rounds):
        word = write_mutated(tmp_path / name, files[name], rng)
        outcome = run(words)
        tally.add(word, outcome)
        check(outcome, word, tmp_path)
        if name == "truth.json":  # the same reader, so the same decision
            counted = run(["count", str(tmp_path / name)])
            unscored = ("file_name", "has the width", "has the height", "has no width", "has no height")
            assert counted.accepted or not outcome.accepted or any(w in counted.err for w in unscored), word
    print(f"{name}: {tally}")
    assert tally.accepted and tally.refused


@pytest.mark.parametrize("rounds", [30, pytest.param(2000, marks=pytest.mark.slow)])
def test_masks(rounds: int, tmp_path: Path) -> None:
    annotations, found = truth(), detections()
    for annotation in annotations["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    annotations["annotations"][0]["segmentation"] = {"size": [100, 100], "counts": [1010, 30, 8960]}
    for detection in found:
        detection["segmentation"] = [SQUARE]
    rng, tally, files = random.Random(2), Tally(), {"truth.json": annotations, "found.json": found}
    words = ["score", "detection", "--annotations", str(tmp_path / "truth.json"), "--detections"]
    words += [str(tmp_path / "found.json"), "--out", str(tmp_path / "results.json")]
    for _ in range(rounds):
        for file, content in files.items():
            (tmp_path / file).write_text(json.dumps(content))
        name = rng.choice(sorted(files))
        word = write_mutated(tmp_path / name, files[name], rng)
        outcome = run(words)
        tally.add(word, outcome)
        check(outcome, word, tmp_path)
    print(f"masks: {tally}")
    assert tally.accepted and tally.refused
