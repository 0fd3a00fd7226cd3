"""AP of small, medium and large objects against pycocotools and lvis-api, for the three forms of a detections file."""

import contextlib
import copy
import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from longtail.metrics.score_detections import score_detections

FORMS = {"bbox": ("bbox",), "segmentation": ("segmentation",), "both": ("bbox", "segmentation")}
SIDE = 256


def ellipse(rng: np.random.Generator, box: list[int]) -> dict[str, Any]:
    """Run lengths of an ellipse that fills most of a box: its area is of another size range than the box's."""
    from pycocotools import mask

    x, y, w, h = box
    columns, rows = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    shrink = rng.uniform(0.6, 1.0)
    inside = ((columns - x - w / 2) / (w / 2 * shrink)) ** 2 + ((rows - y - h / 2) / (h / 2 * shrink)) ** 2 < 1
    runs = mask.encode(np.asfortranarray(inside.astype(np.uint8)))
    return {"size": [SIDE, SIDE], "counts": runs["counts"].decode()}


def made_up(seed: int, federated: bool) -> tuple[dict, list[dict]]:
    from pycocotools import mask

    rng = np.random.default_rng(seed)
    categories = [{"id": c, "name": f"c{c}", "frequency": "rcf"[c % 3]} for c in (3, 5, 8)]
    images, annotations, detections = [], [], []
    for image in range(2**62, 2**62 + 12):
        present = set()
        for _ in range(6):
            side = rng.choice([22, 30, 36, 40, 80, 100, 110, 130], 2)
            box = [*rng.integers(0, 100, 2).tolist(), *side.tolist()]
            shape, category = ellipse(rng, box), int(rng.choice([3, 5, 8]))
            present.add(category)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": box,
                    "area": float(mask.area(shape)),
                    "segmentation": shape,
                    **({} if federated else {"iscrowd": int(rng.random() < 0.1)}),
                }
            )
            for _ in range(2):
                near = [max(0, v + int(rng.integers(-4, 5))) for v in box]
                detections.append(
                    {
                        "image_id": image,
                        "category_id": category if rng.random() < 0.8 else int(rng.choice([3, 5, 8])),
                        "bbox": near,
                        "segmentation": ellipse(rng, near),
                        "score": float(rng.random()),
                    }
                )
        lists = {"neg_category_ids": [c for c in (3, 5, 8) if c not in present], "not_exhaustive_category_ids": [5]}
        images.append({"id": image, "height": SIDE, "width": SIDE, **(lists if federated else {})})
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def of_form(detections: list[dict], form: str) -> list[dict]:
    return [{k: v for k, v in d.items() if k not in FORMS["both"] or k in FORMS[form]} for d in detections]


def pycocotools_scores(truth: dict, detections: list[dict], kind: str) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    reference = COCO()
    reference.dataset = truth
    reference.createIndex()
    run = COCOeval(reference, reference.loadRes(detections), kind)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run.stats[:6].tolist()


def lvis_scores(truth: Path, detections: list[dict], kind: str, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    monkeypatch.setattr(np, "float", float, raising=False)  # lvis-api is older than numpy 1.24
    monkeypatch.setitem(sys.modules, "cv2", ModuleType("cv2"))  # it draws with it
    lvis = pytest.importorskip("lvis")
    reference = lvis.LVIS(str(truth))
    run = lvis.LVISEval(reference, lvis.LVISResults(reference, detections), kind)
    run.run()
    return [run.results[name] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")]


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("seed", [0, 1])
def test_sizes_equal_the_reference(
    seed: int, form: str, federated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, detections = made_up(seed, federated)
    truth, file = tmp_path / "truth.json", tmp_path / "found.json"
    truth.write_text(json.dumps(content))
    file.write_text(json.dumps(of_form(detections, form)))
    ours = score_detections(truth, file)
    assert ours.settings["federated"] == federated
    for kind in ("bbox", "segm") if form != "bbox" else ("bbox",):
        given = copy.deepcopy(of_form(detections, form))
        with contextlib.redirect_stdout(io.StringIO()):
            if federated:
                expected = lvis_scores(truth, given, kind, monkeypatch)
            else:
                expected = pycocotools_scores(copy.deepcopy(content), given, kind)
        prefix = "mask_" if kind == "segm" else ""
        found = [ours.own.overall[prefix + name] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")]
        np.testing.assert_allclose(found, expected, atol=1e-9, err_msg=f"{form} {kind}")
        assert len({round(value, 6) for value in found}) == 6  # every size says something else
