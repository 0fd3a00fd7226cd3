"""A slow evaluator of detections to compare the fast one with, and made-up annotations and detections."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_scorer import DetectionScorer, IouType
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.read_detections import read_detections

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


# ---- a slow evaluator: boxes, one size range, plain loops -----------------------------------------------------------


def slow_ap(truth: dict, detections: list[dict], federated: bool, limit: int, size: tuple = (0, 1e10)) -> np.ndarray:
    """AP of every category, (C, 10); NaN where there is nothing to find."""
    scores, positives = slow_scores(truth, detections, federated, limit, size)
    return np.array([slow_average_precision(scores[c], positives[c]) for c in scores])


def slow_pooled_ap(truth: dict, detections: list[dict], federated: bool) -> float:
    """One precision-recall curve over all categories."""
    scores, positives = slow_scores(truth, detections, federated, 10**9)
    return float(np.mean(slow_average_precision([s for c in scores for s in scores[c]], sum(positives.values()))))


def slow_scores(
    truth: dict, detections: list[dict], federated: bool, limit: int, size: tuple = (0, 1e10)
) -> tuple[dict[int, list], dict[int, int]]:
    """Matched detections and number of objects to find of every category."""
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
            flag = "ignore" if federated else "iscrowd"  # lvis-api knows no crowds, pycocotools nothing else
            mine = sorted((d for d in found if d["category_id"] == c), key=lambda d: -d["score"])
            if federated and not objects and c not in image["neg_category_ids"]:
                continue
            mine = mine if federated else mine[:limit]
            lenient = federated and c in image["not_exhaustive_category_ids"]
            skip = [bool(a.get(flag)) or not size[0] <= a["area"] <= size[1] for a in objects]
            crowd = [not federated and bool(a.get("iscrowd")) for a in objects]
            positives[c] += skip.count(False)
            scores[c] += zip(*slow_match(objects, skip, crowd, mine, lenient, size), strict=True)
    return scores, positives


def slow_match(
    objects: list, skip: list, crowd: list, found: list, lenient: bool, size: tuple
) -> tuple[list, list, list]:
    """Score of every detection, and whether it is right and whether it is ignored at each threshold."""
    order = sorted(range(len(objects)), key=lambda g: skip[g])
    hits = np.zeros((len(found), 10), bool)
    ignored = np.zeros((len(found), 10), bool)
    for t, threshold in enumerate(IOU_THRESHOLDS):
        taken: set[int] = set()
        for i, d in enumerate(found):
            best, match = min(threshold, 1 - 1e-10), None
            for g in order:
                if g in taken and not crowd[g]:
                    continue
                if match is not None and not skip[match] and skip[g]:
                    break
                overlap = slow_iou(d["bbox"], objects[g]["bbox"], crowd[g])
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
    rng, flags = np.random.default_rng(seed), np.random.default_rng([seed, 1])
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
                    "iscrowd": int(flags.random() < 0.15),
                    "ignore": int(flags.random() < 0.15),
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
    return read_detections(path, truth)


def made(image_ids: list, boxes: Any, scores: list, labels: Any, masks: list | None = None) -> DetectionArrays:
    return DetectionArrays(*(np.asarray(v) for v in (image_ids, boxes, scores, labels)), masks)


def evaluate(truth: DetectionTruth, detections: DetectionArrays, kind: IouType = "bbox", **options: Any) -> Any:
    """The evaluator of all images."""
    scorer = DetectionScorer(truth, iou_types=(kind,), **options)
    scorer.update(truth.image_ids.tolist(), detections)
    return scorer.evaluators()[kind]


def per_class(run: Any, size: int = 0) -> np.ndarray:
    precision = run.eval["precision"][:, :, :, size, -1]
    return np.where(precision > -1, precision, np.nan).mean(axis=1).T
