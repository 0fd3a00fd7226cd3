"""Memory of a scorer does not grow with the images that it has seen."""

from pathlib import Path

import numpy as np
import pytest

from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_scorer import DetectionScorer
from longtail.metrics.detection_truth import DetectionTruth

IMAGES, PER_IMAGE, STEP = 20_000, 20, 100


def resident() -> int:
    """Memory of this process, in bytes."""
    fields = Path("/proc/self/status").read_text().split("VmRSS:")[1].split()
    return int(fields[0]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
def test_twenty_thousand_images_take_no_more_than_their_matches() -> None:
    rng = np.random.default_rng(0)
    images = [{"id": i, "width": 640, "height": 480} for i in range(IMAGES)]
    categories = [{"id": c, "name": str(c)} for c in range(1, 11)]
    annotations = [
        {"id": i, "image_id": i, "category_id": 1 + i % 10, "bbox": [10, 10, 50, 50], "area": 2500}
        for i in range(IMAGES)
    ]
    truth = DetectionTruth({"images": images, "categories": categories, "annotations": annotations})
    scorer = DetectionScorer(truth)
    memory = {}
    for start in range(0, IMAGES, STEP):
        ids, count = np.arange(start, start + STEP), STEP * PER_IMAGE
        corners = rng.uniform(0, 300, (count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 200, (count, 2))], axis=1)
        labels, scores = rng.integers(0, 10, count), rng.random(count)
        scorer.update(ids.tolist(), DetectionArrays(np.repeat(ids, PER_IMAGE), boxes, scores, labels))
        memory[start + STEP] = resident()
    grown = memory[IMAGES] - memory[IMAGES // 4]
    matches = (IMAGES - IMAGES // 4) * PER_IMAGE
    print(f"{grown / 2**20:.1f} MiB for {matches} detections, {grown / matches:.0f} bytes each")
    assert grown < 150 * matches
    assert 0 <= scorer.compute().overall["AP"] < 0.1
