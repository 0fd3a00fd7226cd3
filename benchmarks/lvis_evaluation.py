"""LVIS box evaluation, 2,000 images with 300 detections each over 1,203 categories: the time to score a detector."""

import numpy as np
from harness import arguments, measure

from longtail.metrics.detection import DetectionTruth, detection_prediction, evaluate
from longtail.metrics.detection_arrays import DetectionArrays

IMAGES, DETECTIONS, CLASSES, OBJECTS = 2000, 300, 1203, 12


def made_up() -> tuple[DetectionTruth, DetectionArrays]:
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
    truth = DetectionTruth({"images": images, "annotations": annotations, "categories": categories})
    return truth, DetectionArrays(image, np.concatenate([xy, xy + wh], axis=1), rng.random(len(image)), found)


def main() -> None:
    options = arguments(__doc__).parse_args()
    truth, detections = made_up()
    measure(
        "lvis_evaluation",
        {
            "one run of the evaluator": lambda: evaluate(truth, detections),
            "AP, AP_fixed": lambda: detection_prediction(truth, detections, pooled=False),
            "AP, AP_fixed, AP_pool, calibration": lambda: detection_prediction(truth, detections),
        },
        note=f"{len(detections)} detections, federated; process time, all threads together",
        repeats=min(options.repeats, 3),
        allocator=options.allocator,
    )


if __name__ == "__main__":
    main()
