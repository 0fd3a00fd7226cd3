"""LVIS box evaluation, 2,000 images with 300 detections each over 1,203 categories: the time to score a detector.

Each side runs in a process of its own, for its memory. lvis-api is no dependency of the project: without it
(``pip install lvis``), its side is left out.
"""

import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import arguments, resident_growth, write

from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_scorer import detection_prediction
from longtail.metrics.detection_truth import DetectionTruth

IMAGES, DETECTIONS, CLASSES, OBJECTS = 2000, 300, 1203, 12
SIDES = ("lvis-api", "AP", "AP, AP_fixed", "AP, AP_fixed, AP_pool, calibration")


def made_up() -> tuple[dict[str, Any], DetectionArrays]:
    """Federated annotations with Zipf-distributed categories, and detections around them."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, CLASSES + 1)
    labels = rng.choice(CLASSES, IMAGES * OBJECTS, p=share / share.sum())
    corner, size = rng.random((IMAGES * OBJECTS, 2)) * 500, rng.random((IMAGES * OBJECTS, 2)) * 120 + 8
    annotations = [
        {"id": i + 1, "image_id": i // OBJECTS, "category_id": int(c), "bbox": [*xy, *wh], "area": wh[0] * wh[1]}
        for i, (c, xy, wh) in enumerate(zip(labels, corner.tolist(), size.tolist(), strict=True))
    ]
    negative = rng.integers(CLASSES, size=(IMAGES, 5)).tolist()
    images = [
        {"id": i, "height": 640, "width": 640, "neg_category_ids": negative[i], "not_exhaustive_category_ids": []}
        for i in range(IMAGES)
    ]
    categories = [{"id": c, "name": str(c), "frequency": "rcf"[c % 3]} for c in range(CLASSES)]
    image = np.repeat(np.arange(IMAGES), DETECTIONS)
    near = image * OBJECTS + rng.integers(OBJECTS, size=len(image))
    xy = corner[near] + rng.normal(size=(len(image), 2)) * 6
    wh = size[near] * (1 + rng.normal(size=(len(image), 2)) * 0.1).clip(0.5, 2)
    wrong = rng.random(len(image)) < 0.7
    found = np.where(wrong, rng.integers(CLASSES, size=len(image)), labels[near])
    truth = {"images": images, "annotations": annotations, "categories": categories}
    return truth, DetectionArrays(image, np.concatenate([xy, xy + wh], axis=1), rng.random(len(image)), found)


def by_lvis_api(content: dict[str, Any], detections: DetectionArrays) -> Any:
    """A call of lvis-api, everything read and in its own form before."""
    setattr(np, "float", float)  # noqa: B010  # lvis 0.5.3 still asks for it
    from lvis import LVIS, LVISEval, LVISResults

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "truth.json"
        path.write_text(json.dumps(content))
        truth = LVIS(str(path))
    detections.to_json(path := Path(tempfile.mkstemp(suffix=".json")[1]), np.arange(CLASSES))
    found = json.loads(path.read_text())
    path.unlink()

    def run() -> list[float]:
        evaluation = LVISEval(truth, LVISResults(truth, found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return [evaluation.results[name] for name in ("AP", "APr", "APc", "APf")]

    return run


def by_longtail(side: str, content: dict[str, Any], detections: DetectionArrays) -> Any:
    """A call of ours, the annotations read before."""
    truth = DetectionTruth(content)

    def run() -> list[float]:
        scores = detection_prediction(truth, detections, fixed="fixed" in side, pooled="pool" in side)
        return [scores.overall["AP"], *(scores.groups[group]["AP"] for group in ("rare", "common", "frequent"))]

    return run


def measure_here(side: str, repeats: int) -> None:
    """Print what one side takes and finds, in this process."""
    made = made_up()
    run = by_lvis_api(*made) if side == "lvis-api" else by_longtail(side, *made)
    times: list[float] = []
    scores: Any = None

    def timed() -> None:
        nonlocal scores
        start = time.process_time()
        scores = run()
        times.append(time.process_time() - start)

    peak = resident_growth(timed)
    for _ in range(repeats - 1):
        timed()
    found = scores if isinstance(scores, list) else None
    sys.stdout.write(json.dumps({"times": times, "peak": peak, "scores": found}) + "\n")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--side", choices=SIDES, help="measure this one only, here, and print it")
    options = parser.parse_args()
    if options.side:
        measure_here(options.side, options.repeats)
        return
    sides = list(SIDES)
    if importlib.util.find_spec("lvis") is None:
        sys.stdout.write("lvis-api is not installed: its side is left out\n")
        sides.remove("lvis-api")
    found = {}
    for side in sides:
        repeats = 1 if side == "lvis-api" else min(options.repeats, 3)
        command = [sys.executable, __file__, "--side", side, "--repeats", str(repeats)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[side] = json.loads(output.splitlines()[-1])
    scores = [record["scores"] for record in found.values() if record["scores"]]
    difference = float(np.abs(np.array(scores) - scores[0]).max())
    if difference > 1e-9:
        raise AssertionError(f"AP, APr, APc and APf differ by up to {difference}: {scores}")
    count = IMAGES * DETECTIONS
    write(
        "lvis_evaluation",
        {side: record["times"] for side, record in found.items()},
        {side: record["peak"] for side, record in found.items()},
        note=f"{count} detections, federated; AP, APr, APc, APf equal to 1e-9; memory that the process grows by",
        allocator="default",
    )


if __name__ == "__main__":
    main()
