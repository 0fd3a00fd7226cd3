"""Detection metrics against a slow evaluator of our own, pycocotools, and the reference numbers of lvis-api."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longtail.errors import ConfigError, DataError
from longtail.frequency.groups import CategoryGroups
from longtail.metrics.detection import DetectionTruth, detection_prediction, evaluate
from longtail.metrics.detection_arrays import DetectionArrays

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


# ---- a slow evaluator: boxes, one size range, plain loops -----------------------------------------------------------


def slow_ap(truth: dict, detections: list[dict], federated: bool, limit: int, size: tuple = (0, 1e10)) -> np.ndarray:
    """AP of every category, (C, 10); NaN where there is nothing to find."""
    categories = sorted(c["id"] for c in truth["categories"])
    if federated and limit:
        detections = [
            d
            for image in truth["images"]
            for d in sorted((d for d in detections if d["image_id"] == image["id"]), key=lambda d: -d["score"])[:limit]
        ]
    scores: dict[int, list] = {c: [] for c in categories}
    positives = dict.fromkeys(categories, 0)
    for image in sorted(truth["images"], key=lambda i: i["id"]):
        here = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        found = [d for d in detections if d["image_id"] == image["id"]]
        for c in categories:
            objects = [a for a in here if a["category_id"] == c]
            mine = sorted((d for d in found if d["category_id"] == c), key=lambda d: -d["score"])
            if federated and not objects and c not in image["neg_category_ids"]:
                continue
            mine = mine if federated else mine[:limit]
            lenient = federated and c in image["not_exhaustive_category_ids"]
            skip = [bool(a.get("iscrowd")) or not size[0] <= a["area"] <= size[1] for a in objects]
            positives[c] += skip.count(False)
            scores[c] += zip(*slow_match(objects, skip, mine, lenient, size), strict=True)
    return np.array([slow_average_precision(scores[c], positives[c]) for c in categories])


def slow_match(objects: list, skip: list, found: list, lenient: bool, size: tuple) -> tuple[list, list, list]:
    """Score of every detection, and whether it is right and whether it is ignored at each threshold."""
    order = sorted(range(len(objects)), key=lambda g: skip[g])
    hits = np.zeros((len(found), 10), bool)
    ignored = np.zeros((len(found), 10), bool)
    for t, threshold in enumerate(IOU_THRESHOLDS):
        taken: set[int] = set()
        for i, d in enumerate(found):
            best, match = min(threshold, 1 - 1e-10), None
            for g in order:
                crowd = bool(objects[g].get("iscrowd"))
                if g in taken and not crowd:
                    continue
                if match is not None and not skip[match] and skip[g]:
                    break
                overlap = slow_iou(d["bbox"], objects[g]["bbox"], crowd)
                if overlap >= best:
                    best, match = overlap, g
            if match is not None:
                taken.add(match)
                hits[i, t], ignored[i, t] = not skip[match], skip[match]
            else:
                area = d["bbox"][2] * d["bbox"][3]
                ignored[i, t] = lenient or not size[0] <= area <= size[1]
    return [d["score"] for d in found], list(hits), list(ignored)


def slow_iou(a: list, b: list, crowd: bool) -> float:
    width = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    union = a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - width * height
    return width * height / union if union else 0.0


def slow_average_precision(scores: list, positives: int) -> list[float]:
    if not positives:
        return [np.nan] * 10
    scores = sorted(scores, key=lambda s: -s[0])
    values = []
    for t in range(10):
        hits = [hit[t] for _, hit, ignored in scores if not ignored[t]]
        right, best_at = 0, []
        for n, hit in enumerate(hits, 1):
            right += bool(hit)
            best_at.append((right / positives, right / n))
        values.append(float(np.mean([max((p for r, p in best_at if r >= recall), default=0.0) for recall in RECALLS])))
    return values


# ---- made-up data ---------------------------------------------------------------------------------------------------


def made_up(seed: int, federated: bool = False, per_image: int = 12, ties: bool = True) -> tuple[dict, list[dict]]:
    rng = np.random.default_rng(seed)
    categories = [{"id": int(c), "name": f"c{c}", "frequency": "rcf"[c % 3]} for c in (9, 2, 4, 7, 30, 11)]
    ids = [c["id"] for c in categories]
    images, annotations, detections = [], [], []
    for image in (5, 3, 8, 1):
        record: dict[str, Any] = {"id": image, "height": 200, "width": 200}
        for _ in range(rng.integers(0, 7)):
            box = [*rng.integers(0, 100, 2).tolist(), *rng.integers(10, 100, 2).tolist()]
            annotations.append(
                {
                    "id": len(annotations),  # 0 is an id
                    "image_id": image,
                    "category_id": int(rng.choice(ids[:-1])),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0 if federated else int(rng.random() < 0.15),
                }
            )
        here = [a for a in annotations if a["image_id"] == image]
        if federated:
            absent = [c for c in ids if c not in {a["category_id"] for a in here}]
            record["neg_category_ids"] = absent[:2]
            record["not_exhaustive_category_ids"] = sorted({a["category_id"] for a in here})[:1]
        images.append(record)
        for _ in range(per_image):
            near = here[rng.integers(len(here))] if here and rng.random() < 0.6 else None
            box = (
                [v + int(rng.integers(-5, 6)) for v in near["bbox"]]
                if near
                else [*rng.integers(0, 100, 2).tolist(), *rng.integers(10, 100, 2).tolist()]
            )
            detections.append(
                {
                    "image_id": image,
                    "category_id": near["category_id"] if near and rng.random() < 0.8 else int(rng.choice(ids)),
                    "bbox": box,
                    "score": float(rng.integers(1, 6) / 6 if ties else rng.random()),
                }
            )
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def arrays(truth: DetectionTruth, detections: list[dict], tmp_path: Path) -> DetectionArrays:
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(detections))
    return DetectionArrays.from_json(path, truth.category_ids)


def made(image_ids: list, boxes: Any, scores: list, labels: Any, masks: list | None = None) -> DetectionArrays:
    return DetectionArrays(*(np.asarray(v) for v in (image_ids, boxes, scores, labels)), masks)


def per_class(run: Any, size: int = 0) -> np.ndarray:
    precision = run.eval["precision"][:, :, :, size, -1]
    return np.where(precision > -1, precision, np.nan).mean(axis=1).T


# ---- tests ----------------------------------------------------------------------------------------------------------


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
    if iou_type == "segm":
        for d in detections:
            del d["bbox"]
    run = COCOeval(reference, reference.loadRes(detections), iou_type)
    run.evaluate()
    run.accumulate()
    run.summarize()
    prefix = "mask_" if iou_type == "segm" else ""
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    np.testing.assert_allclose([ours.overall[prefix + name] for name in names], run.stats[:6], atol=1e-9)
    assert ours.overall[prefix + "AP"] > 0.2


def test_equals_lvis_on_its_sample(real_data: Path) -> None:
    folder = real_data / "lvis_sample"
    if not folder.exists():
        pytest.skip(f"{folder} is absent")
    truth = DetectionTruth(folder / "lvis_val_100.json")
    assert truth.federated and truth.num_classes == 1230
    detections = DetectionArrays.from_json(folder / "detections.json", truth.category_ids)
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
    assert limited.overall["AP_fixed"] == unlimited.overall["AP"] != limited.overall["AP"]


def test_top_per_class_keeps_the_first_of_equal_scores() -> None:
    detections = made([1, 2, 3, 4, 5], np.zeros((5, 4)), [0.5, 0.5, 0.5, 0.9, 0.1], [0, 0, 0, 0, 1], list("abcde"))
    top = detections.top_per_class(2)
    assert top.image_ids.tolist() == [1, 4, 5] and top.masks == ["a", "d", "e"]


def test_groups_are_free_and_fall_back_to_the_file() -> None:
    content, _ = made_up(2)
    assert DetectionTruth(content).groups.names == ("rare", "common", "frequent")
    for c in content["categories"]:
        c.pop("frequency")
    assert DetectionTruth(content).groups.names == ("all",)
    for c, count in zip(content["categories"], (10, 11, 100, 101, 0, 1), strict=True):
        c["image_count"] = count
    truth = DetectionTruth(content)  # ids 9 2 4 7 30 11 become classes 3 0 1 2 5 4
    assert truth.groups.members == ((3, 4, 5), (0, 1), (2,))
    assert truth.frequency.images.tolist() == [11, 100, 101, 10, 1, 0]
    with pytest.raises(ConfigError, match="categories"):
        detection_prediction(truth, made([], [], [], []), CategoryGroups.explicit({"all": [0]}))


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


def test_refuses_annotations_without_their_category_or_image() -> None:
    content, _ = made_up(0)
    stray = {"id": 99, "image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1], "area": 1}
    with pytest.raises(DataError, match="annotation 99 of the annotations names category 1"):
        DetectionTruth({**content, "annotations": [stray]})
    with pytest.raises(DataError, match="image 6"):
        DetectionTruth({**content, "annotations": [{**stray, "category_id": 2, "image_id": 6}]})
    with pytest.raises(DataError, match="cannot read"):
        DetectionTruth("nowhere.json")


def test_files_of_detections(tmp_path: Path) -> None:
    content, detections = made_up(3)
    truth = DetectionTruth(content)
    first = arrays(truth, detections, tmp_path)
    first.to_json(tmp_path / "again.json", truth.category_ids)
    second = DetectionArrays.from_json(tmp_path / "again.json", truth.category_ids)
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.labels, second.labels)
    for bad, message in (
        ([{"image_id": 1}], "lacks 'category_id'"),
        ({"annotations": []}, "no list"),
        ([{**detections[0], "category_id": 1000}], "such as 1000"),
    ):
        (tmp_path / "bad.json").write_text(json.dumps(bad))
        with pytest.raises(DataError, match=message):
            DetectionArrays.from_json(tmp_path / "bad.json", truth.category_ids)


def test_collects_what_detectors_give() -> None:
    class Found:
        def __init__(self, n: int, masks: list | None) -> None:
            self.boxes, self.scores = torch.rand(n, 4), torch.rand(n)
            self.labels, self.masks = torch.arange(n), masks

    both = DetectionArrays.collect([7, 3], [Found(2, ["a", "b"]), Found(0, [])])
    assert both.image_ids.tolist() == [7, 7] and both.masks == ["a", "b"] and both.labels.tolist() == [0, 1]
    assert DetectionArrays.collect([7], [Found(1, None)]).masks is None
    assert len(DetectionArrays.collect([], [])) == 0


def test_truth_of_a_data_set_equals_that_of_its_content() -> None:
    from longtail.datasets.base import ClassInfo

    class Shapes:
        classes = ClassInfo(("a", "b"), ((0, 0, 0), (1, 1, 1)))
        transform = print  # would fail

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> dict:
            assert self.transform is None
            masks = torch.zeros(1, 30, 40, dtype=torch.bool)
            masks[0, 2:12, 3:23] = True
            boxes = torch.tensor([[3.0, 2.0, 23.0, 12.0]])
            return {
                "image": torch.zeros(3, 30, 40, dtype=torch.uint8),
                "boxes": boxes,
                "labels": torch.tensor([index]),
                "masks": masks,
                "crowd": torch.tensor([False]),
                "image_id": index,
                "name": str(index),
            }

    truth = DetectionTruth.from_dataset(Shapes())
    from hotcoco import mask

    full = np.zeros((30, 40), np.uint8)
    full[2:12, 3:23] = 1
    masks = [mask.encode(np.asfortranarray(full))] * 2
    found = made([0, 1], [[3, 2, 23, 12]] * 2, [0.5, 0.5], [0, 1], masks)
    scores = detection_prediction(truth, found, iou_types=("bbox", "segm"))
    assert scores.overall["AP"] == pytest.approx(1) and scores.overall["mask_AP"] == pytest.approx(1)


def test_masks_are_needed_for_mask_scores() -> None:
    content, _ = made_up(0)
    with pytest.raises(ConfigError, match="masks"):
        evaluate(DetectionTruth(content), made([5], [[0, 0, 9, 9]], [0.5], [0]), "segm")
