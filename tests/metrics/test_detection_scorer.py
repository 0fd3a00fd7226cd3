"""Detection metrics against a slow evaluator of our own, pycocotools, and the reference numbers of lvis-api."""

import json
import pickle
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from longtail.errors import ConfigError, DataError
from longtail.metrics import detection_matching, detection_scorer
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_scorer import DetectionScorer, detection_prediction
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.read_detections import read_detections
from longtail.metrics.results import Prediction
from support.slow_detection import arrays, evaluate, made, made_up, per_class, slow_ap, slow_pooled_ap

IDS = (9, 2, 4, 7, 30, 11)


def as_text(prediction: Prediction) -> str:
    return json.dumps(asdict(prediction))  # NaN equals itself there


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_slow_evaluator(seed: int, federated: bool, tmp_path: Path) -> None:
    content, detections = made_up(seed, federated)
    truth = DetectionTruth(content)
    assert truth.federated == federated
    for limit in (100, 5):  # more detections an image than the limit, with tied scores
        run = evaluate(truth, arrays(truth, detections, tmp_path), max_detections=limit)
        for size, bounds in enumerate([(0, 1e10), (0, 1024), (1024, 9216), (9216, 1e10)]):
            slow = slow_ap(content, detections, federated, limit, bounds)
            np.testing.assert_allclose(per_class(run, size), slow, atol=1e-9)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_equals_pycocotools(iou_type: str, real_data: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    path = real_data / "trashcan_lt/annotations/val.json"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    content = json.loads(path.read_bytes())
    rng = np.random.default_rng(0)
    detections = [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"] if rng.random() < 0.8 else int(rng.integers(1, 40)),
            "bbox": [v + int(rng.integers(0, 6)) for v in a["bbox"]],
            "segmentation": content["annotations"][i - (rng.random() < 0.2)]["segmentation"],
            "score": round(float(rng.random()), 2),
        }
        for i, a in enumerate(content["annotations"])
        if rng.random() < 0.9
        if i and content["annotations"][i - 1]["segmentation"]["size"] == a["segmentation"]["size"]
    ]
    truth = DetectionTruth(path)
    categories = np.array([d["category_id"] for d in detections])
    boxes = np.array([d["bbox"] for d in detections], dtype=float)
    boxes[:, 2:] += boxes[:, :2]
    ours = detection_prediction(
        truth,
        DetectionArrays(
            np.array([d["image_id"] for d in detections]),
            boxes,
            np.array([d["score"] for d in detections]),
            np.searchsorted(truth.category_ids, categories),
            [d["segmentation"] for d in detections],
        ),
        iou_types=(iou_type,),
    )
    reference = COCO()
    reference.dataset = content
    reference.createIndex()
    run = COCOeval(reference, reference.loadRes(detections), iou_type)
    run.evaluate()
    run.accumulate()
    run.summarize()
    prefix = "mask_" if iou_type == "segm" else ""
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    np.testing.assert_allclose([ours.overall[prefix + name] for name in names], run.stats[:6], atol=1e-9)
    assert ours.overall[prefix + "AP"] > 0.2
    # what has no limit an image is matched by our own code: within the limits it finds the same
    assert ours.overall[prefix + "AP_fixed"] == pytest.approx(ours.overall[prefix + "AP"], abs=1e-9)


def test_equals_lvis_on_its_sample(real_data: Path) -> None:
    folder = real_data / "lvis_sample"
    if not folder.exists():
        pytest.skip(f"{folder} is absent")
    truth = DetectionTruth(folder / "lvis_val_100.json")
    assert truth.federated and truth.num_classes == 1230
    detections = read_detections(folder / "detections.json", truth)
    scores = detection_prediction(truth, detections, iou_types=("bbox", "segm"))
    for prefix, expected in (
        ("", (0.3031623482, 0.2333333333, 0.3488413887, 0.2949828376)),
        ("mask_", (0.2103393957, 0.1333333333, 0.2489980269, 0.2035296292)),
    ):
        found = [scores.overall[f"{prefix}AP"]] + [
            scores.groups[g][f"{prefix}AP"] for g in ("rare", "common", "frequent")
        ]
        np.testing.assert_allclose(found, expected, atol=1e-9)
    known = [v for v in scores.per_class["AP"] if v is not None]
    assert np.mean(known) == pytest.approx(scores.overall["AP"])


@pytest.mark.slow
def test_equals_the_slow_evaluator_on_lvis_beyond_300_an_image(real_data: Path) -> None:
    folder = real_data / "lvis_sample"
    content = json.loads((folder / "lvis_val_100.json").read_bytes())
    detections = json.loads((folder / "detections.json").read_bytes())
    detections = [{**d, "score": round(d["score"], 2)} for d in detections for _ in range(2)]  # 600 an image, tied
    truth = DetectionTruth(content)
    run = evaluate(
        truth,
        made(
            [d["image_id"] for d in detections],
            [[x, y, x + w, y + h] for x, y, w, h in (d["bbox"] for d in detections)],
            [d["score"] for d in detections],
            np.searchsorted(truth.category_ids, [d["category_id"] for d in detections]),
        ),
    )
    np.testing.assert_allclose(per_class(run), slow_ap(content, detections, True, 300), atol=1e-9)


def test_perfect_detections_and_absent_classes(tmp_path: Path) -> None:
    content, _ = made_up(0)
    for a in content["annotations"]:
        a["iscrowd"] = 0
    truth = DetectionTruth(content)
    perfect = [{**a, "score": 0.9} for a in content["annotations"]]
    scores = detection_prediction(truth, arrays(truth, perfect, tmp_path))
    assert scores.overall["AP"] == pytest.approx(1.0) and scores.overall["AP_pool"] == pytest.approx(1.0)
    assert scores.overall["AP_fixed"] == pytest.approx(1.0) and scores.overall["AR"] == pytest.approx(1.0)
    absent = truth.class_names.index("c11")
    assert scores.per_class["AP"][absent] is None
    sizes = [sum(scores.per_class["AP"][c] is not None for c in m) for m in truth.groups.members]
    means = [scores.groups[n]["AP"] for n in truth.groups.names]
    weighted = sum(s * m for s, m in zip(sizes, means, strict=True) if s) / sum(sizes)
    assert weighted == pytest.approx(scores.overall["AP"])


def test_no_detections() -> None:
    content, _ = made_up(0)
    empty = DetectionArrays(np.zeros(0), np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    scores = detection_prediction(DetectionTruth(content), empty, iou_types=("bbox",))
    assert scores.overall["AP"] == 0.0 and scores.overall["AP_pool"] == 0.0


def test_no_annotations() -> None:
    content, _ = made_up(0)
    scores = detection_prediction(DetectionTruth({**content, "annotations": []}), made([5], [[0, 0, 9, 9]], [0.5], [0]))
    assert np.isnan(scores.overall["AP"]) and set(scores.per_class["AP"]) == {None}


def test_fixed_ap_has_no_limit_an_image(tmp_path: Path) -> None:
    content, detections = made_up(1, federated=True, per_image=12, ties=False)
    truth = DetectionTruth(content)
    found = arrays(truth, detections, tmp_path)
    limited = detection_prediction(truth, found, max_detections=2)
    unlimited = detection_prediction(truth, found, max_detections=0)
    assert limited.overall["AP_fixed"] == pytest.approx(unlimited.overall["AP"], abs=1e-12)
    assert limited.overall["AP"] < unlimited.overall["AP"]


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_scores_without_a_limit_equal_the_slow_evaluator(seed: int, federated: bool, tmp_path: Path) -> None:
    content, detections = made_up(seed, federated)
    truth = DetectionTruth(content)
    scores = detection_prediction(truth, arrays(truth, detections, tmp_path), max_detections=2)
    slow = slow_ap(content, detections, federated, 10**9).mean(axis=1)
    found = [np.nan if v is None else v for v in scores.per_class["AP_fixed"]]
    np.testing.assert_allclose(found, slow, atol=1e-12)
    assert scores.overall["AP_pool"] == pytest.approx(slow_pooled_ap(content, detections, federated), abs=1e-12)


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize(("room", "seed"), [(2**20, 4), (3, 4), (3, 5), (3, 6)])
def test_fixed_ap_is_of_the_best_of_each_class(
    room: int, seed: int, federated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the reference has it: the best of each class first, also where nobody looked for it, then the rules."""
    monkeypatch.setattr(detection_matching, "FIXED_PER_CLASS", 3)
    monkeypatch.setattr(detection_scorer, "_PIECE", 1)
    monkeypatch.setattr(detection_matching, "_ROOM", room)
    content, detections = made_up(seed, federated, ties=False)
    truth = DetectionTruth(content)
    by_class = {c: sorted((d for d in detections if d["category_id"] == c), key=lambda d: -d["score"]) for c in IDS}
    best = [d for found in by_class.values() for d in found[:3]]
    assert max(map(len, by_class.values())) > 6 and len(best) < len(detections)
    scores = detection_prediction(truth, arrays(truth, detections, tmp_path))
    assert scores.overall["AP_fixed"] == pytest.approx(np.nanmean(slow_ap(content, best, federated, 10**9)), abs=1e-12)
    assert scores.overall["AP_pool"] == pytest.approx(slow_pooled_ap(content, best, federated), abs=1e-12)


@pytest.mark.parametrize("federated", [False, True])
def test_flagged_objects_by_hand(federated: bool) -> None:
    """Two objects, the first is found. lvis-api skips what is to be ignored and knows no crowds, pycocotools not so."""
    image = {"id": 1, "height": 50, "width": 50, **({"neg_category_ids": [2]} if federated else {})}
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    for flag, skipped in (("ignore", federated), ("iscrowd", not federated)):
        objects = [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [30, 30, 10, 10], "area": 100, flag: 1},
        ]
        truth = DetectionTruth({"images": [image], "annotations": objects, "categories": categories})
        scores = detection_prediction(truth, made([1], [[0, 0, 10, 10]], [0.5], [0]))
        for name in ("AP", "AP_fixed", "AP_pool"):
            assert scores.overall[name] == pytest.approx(1 if skipped else 51 / 101)


@pytest.mark.parametrize("federated", [False, True])
def test_images_may_come_in_parts_to_several_scorers(
    federated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, detections = made_up(5, federated, ties=False)
    truth = DetectionTruth(content)
    found = arrays(truth, detections, tmp_path)
    whole = detection_prediction(truth, found)
    monkeypatch.setattr(detection_scorer, "_PIECE", 1)
    first, second = DetectionScorer(truth), DetectionScorer(truth)
    for scorer, images in ((first, (8, 5)), (second, (3,))):  # image 1 never comes
        for image in images:
            scorer.update([image], found[found.image_ids == image])
    states = [pickle.loads(pickle.dumps(scorer.state)) for scorer in (first, second)]
    first.merge(states)
    first.update([1], found[found.image_ids == 1])
    ours = first.compute()
    curves, expected = ours.extra.pop("calibration"), whole.extra.pop("calibration")
    assert as_text(ours) == as_text(whole)
    for group, curve in expected.items():  # means: summed in another order
        for name, values in curve.items():
            np.testing.assert_allclose(
                *([np.nan if v is None else v for v in c] for c in (curves[group][name], values))
            )


def test_a_category_that_the_file_does_not_list_was_not_looked_for(tmp_path: Path) -> None:
    content, detections = made_up(1, federated=True)
    truth = DetectionTruth(content)
    expected = as_text(detection_prediction(truth, arrays(truth, detections, tmp_path)))
    for image in content["images"]:
        image["neg_category_ids"] = [*image["neg_category_ids"], 3, 1000]
    truth = DetectionTruth(content)
    assert as_text(detection_prediction(truth, arrays(truth, detections, tmp_path))) == expected


def test_images_that_never_come_hold_misses(tmp_path: Path) -> None:
    content, detections = made_up(1, ties=False)
    truth = DetectionTruth(content)
    found = arrays(truth, [d for d in detections if d["image_id"] == 5], tmp_path)
    scorer = DetectionScorer(truth)
    scorer.update([5], found)
    assert as_text(scorer.compute()) == as_text(detection_prediction(truth, found))
    for call in (scorer.compute, lambda: scorer.update([3], found)):
        with pytest.raises(ConfigError, match="already"):
            call()


def test_an_image_is_scored_once() -> None:
    truth = DetectionTruth(made_up(0)[0])
    scorer = DetectionScorer(truth)
    nothing = made([], np.zeros((0, 4)), [], [])
    scorer.update([5], nothing)
    for images in ([5], [3, 5], [8, 8]):
        with pytest.raises(DataError, match=f"image {images[-1]} is scored twice"):
            scorer.update(images, nothing)
    scorer.update([3], nothing)
    with pytest.raises(DataError, match="image 77 is not"):
        scorer.update([77], nothing)
    with pytest.raises(DataError, match="such as 8"):
        scorer.update([1], made([8], [[0, 0, 9, 9]], [0.5], [0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_ids": [77]}, "such as 77"),
        ({"labels": [6]}, "outside 0 … 5"),
        ({"scores": [np.nan]}, "not finite"),
        ({"boxes": [[0, 0, np.inf, 1]]}, "not finite"),
    ],
)
def test_refuses_detections_that_cannot_be_scored(change: dict, message: str) -> None:
    content, _ = made_up(0)
    good = {"image_ids": [5], "boxes": [[0, 0, 9, 9]], "scores": [0.5], "labels": [0]}
    with pytest.raises(DataError, match=message):
        evaluate(DetectionTruth(content), made(**{**good, **change}))
