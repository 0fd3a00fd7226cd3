"""Why 600,000 detections over 1,203 categories fail: errors, curves and 1,000 bootstrap draws, beside the AP itself.

tidecv is no dependency of the project: without it (``pip install --no-deps tidecv``), its side is left out. It takes the
errors of a tenth of the images. Plain numpy's bootstrap scores each draw anew by the matches, and takes ten draws.
"""

import contextlib
import importlib.util
import io
import sys
import unittest.mock
from typing import Any

import numpy as np
from harness import arguments, measure
from lvis_evaluation import CLASSES, IMAGES, made_up

from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_curves import group_curves
from longtail.metrics.detection_errors import detection_errors
from longtail.metrics.detection_scorer import detection_prediction
from longtail.metrics.detection_truth import DetectionTruth
from longtail.metrics.draws import Draws, drawn_group_means
from longtail.metrics.image_matches import ImageMatches
from longtail.metrics.matches import THRESHOLDS
from longtail.metrics.operating_points import OperatingPoints

TENTH, FEW = IMAGES // 10, 10


def by_tidecv(truth: DetectionTruth, detections: DetectionArrays) -> Any:
    """A call of tidecv on the first tenth of the images, everything in its own form before."""
    absent = [name for name in ("appdirs", "cv2", "seaborn") if importlib.util.find_spec(name) is None]
    with unittest.mock.patch.dict(sys.modules, {name: unittest.mock.MagicMock() for name in absent}):
        import tidecv
    objects, answers = (tidecv.Data(name, max_dets=10**6) for name in ("objects", "found"))
    everything = truth.objects(np.arange(TENTH), with_masks=False)
    for data in (objects, answers):
        for place in range(TENTH):
            data.add_image(place, str(place))
        for label in range(CLASSES):
            data.add_class(label, str(label))
    columns = (everything.images, everything.labels, everything.boxes)
    for place, label, box in zip(*(c.tolist() for c in columns), strict=True):
        objects.add_ground_truth(place, label, box)
    here = detections[np.isin(detections.image_ids, truth.image_ids[:TENTH])]
    columns = (truth.places(here.image_ids), here.labels, here.scores, here.xywh)
    for row in zip(*(c.tolist() for c in columns), strict=True):
        answers.add_detection(*row)

    def run() -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            found = tidecv.TIDE().evaluate(objects, answers, pos_threshold=0.5, mode=tidecv.TIDE.BOX)
            return found.fix_main_errors()

    return run


def by_numpy(matches: ImageMatches) -> np.ndarray:
    """AP of every class in a few draws: each image's detections as often as it is drawn, sorted, and scored again."""
    drawn = np.concatenate(list(Draws(IMAGES, FEW)), axis=1).astype(np.int64)
    values = np.full((CLASSES, FEW), np.nan)
    order = np.lexsort((-matches.matches.scores, matches.matches.labels))
    ends = np.searchsorted(matches.matches.labels[order], np.arange(CLASSES + 1))
    recalls = np.linspace(0, 1, 101)
    for draw, times in enumerate(drawn.T):
        positives = times @ matches.positives
        for label in np.flatnonzero(positives):
            here = order[ends[label] : ends[label + 1]]
            here = np.repeat(here, times[matches.images[here]])
            sums = []
            for bit in range(len(THRESHOLDS)):
                kept = here[(matches.matches.ignored[here] >> bit & 1) == 0]
                true = (matches.matches.right[kept] >> bit & 1).cumsum()
                envelope = np.maximum.accumulate((true / np.arange(1, len(true) + 1))[::-1])[::-1]
                place = np.searchsorted(true / positives[label] + 1e-9, recalls, side="left")  # 7/100 reaches 0.07
                sums.append(np.append(envelope, 0.0)[np.minimum(place, len(true))].mean())
            values[label, draw] = np.mean(sums)
    return values


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    content, detections = made_up()
    truth = DetectionTruth(content)
    matches = ImageMatches.match(truth, detections)
    ours, plain = matches.drawn(np.concatenate(list(Draws(IMAGES, FEW)), axis=1))["AP"], by_numpy(matches)
    difference = float(np.nanmax(np.abs(ours - plain)))
    if difference > 1e-5 or not np.array_equal(np.isnan(ours), np.isnan(plain)):
        raise AssertionError(f"AP of the draws differs by up to {difference}")
    few = truth.only(truth.image_ids[:TENTH].tolist())
    part = detections[np.isin(detections.image_ids, few.image_ids)]
    note = f"{len(detections)} detections, federated; AP of the draws equal to 1e-5"
    sides: dict[str, Any] = (
        {} if importlib.util.find_spec("tidecv") is None else {"tidecv": by_tidecv(truth, detections)}
    )
    rules: dict[str, Any] = {"federated": False, "max_detections": 0}
    sides["longtail"] = lambda: detection_errors(few, part, **rules)
    measure("detection_errors", sides, options, note=f"errors of {len(part)} detections, {TENTH} images, no limit")
    measure(
        "bootstrap",
        {
            f"numpy, {FEW} draws": lambda: by_numpy(matches),
            f"longtail, {FEW} draws": lambda: drawn_group_means([matches.drawn], truth.groups, Draws(IMAGES, FEW)),
        },
        options,
        note=note,
    )
    measure(
        "detection_diagnosis",
        {
            "AP": lambda: detection_prediction(truth, detections, fixed=False, pooled=False),
            "errors": lambda: detection_errors(truth, detections),
            "curves and thresholds": lambda: (
                group_curves(matches.matches, truth.groups),
                OperatingPoints.best_f1(matches.matches, truth.class_names),
            ),
            "matches and 1,000 draws": lambda: drawn_group_means(
                [ImageMatches.match(truth, detections).drawn], truth.groups, Draws(IMAGES, 1_000)
            ),
        },
        options,
        note=note,
    )


if __name__ == "__main__":
    main()
