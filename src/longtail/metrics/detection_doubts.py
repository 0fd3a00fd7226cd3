"""What the numbers of detections betray: boxes in another form, scores in percent, classes that are off by one."""

import numpy as np

from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_truth import DetectionTruth

_LOOKED_AT = 2000  # detections with the best scores
_OVERLAP = 0.5
_TIMES = 2  # how much more another reading has to find,
_SHARE = 0.2  # and at least this share of the detections


def detection_doubts(truth: DetectionTruth, found: DetectionArrays, name: str) -> list[str]:
    """Sentences on detections that look as if they were written in another form than COCO's.

    The best detections are compared with the objects of their images, once as they are and once read in each of the
    other forms that people have; only a form that finds many more is spoken of.

    Args:
        truth: The annotations.
        found: The detections.
        name: What to call them.
    """
    doubts = []
    if len(found) and (found.scores.max() > 1 or found.scores.min() < 0):
        percent = " (percent?)" if found.scores.max() > 1 >= 0 else ""
        doubts.append(
            f"scores of {name} reach from {found.scores.min():g} to {found.scores.max():g}{percent}: AP knows their order "
            "alone, but calibration and thresholds want 0 to 1"
        )
    best = found[np.argsort(-found.scores, kind="stable")[:_LOOKED_AT]]
    hits, right = _hits(truth, best, best.xywh)
    for form, boxes in _other_forms(truth, best).items():
        if _hits(truth, best, boxes)[0] > max(_TIMES * hits, _SHARE * len(best)):
            doubts.append(
                f"boxes of {name} fit the objects better as {form}: COCO's are [x, y, width, height] in pixels"
            )
            return doubts
    for shift in (1, -1):
        if right[shift] > max(_TIMES * right[0], _SHARE * len(best)):
            doubts.append(
                f"{right[shift]} of the best {len(best)} detections of {name} are on objects of the class "
                f"{'after' if shift > 0 else 'before'} theirs, {right[0]} on those of their own: classes seem off by one"
            )
    return doubts


def _other_forms(truth: DetectionTruth, found: DetectionArrays) -> dict[str, np.ndarray]:
    """Boxes xywh in pixels, if what the file has were of another form."""
    given = found.xywh
    forms = {
        "[x1, y1, x2, y2]": np.concatenate([given[:, :2], given[:, 2:] - given[:, :2]], axis=1),
        "[centre x, centre y, width, height]": np.concatenate([given[:, :2] - given[:, 2:] / 2, given[:, 2:]], axis=1),
    }
    sizes = [truth.sizes[place] for place in truth.places(found.image_ids)]
    if len(given) and given.max() <= 1.5 and all(size is not None for size in sizes):
        scale = np.array([[w, h, w, h] for h, w in sizes])
        known = {"[x, y, width, height]": given, **forms}
        return {f"{form} in parts of the image": boxes * scale for form, boxes in known.items()}
    return forms


def _hits(truth: DetectionTruth, found: DetectionArrays, boxes: np.ndarray) -> tuple[int, dict[int, int]]:
    """Number of boxes on an object of any class, and by shift, of those on an object of the class at that shift."""
    from hotcoco import primitives

    hits, shifted = 0, {0: 0, 1: 0, -1: 0}
    places = truth.places(found.image_ids)
    valid = (boxes[:, 2:] > 0).all(axis=1)
    for place in np.unique(places[valid]):
        here = np.flatnonzero((places == place) & valid)
        objects = truth.objects(np.array([place]), with_masks=False)
        if not len(objects.rows):
            continue
        overlap = primitives.bbox_iou(boxes[here], objects.boxes, np.zeros(len(objects.rows), dtype=bool))
        on = overlap >= _OVERLAP
        hits += int(on.any(axis=1).sum())
        for shift in shifted:
            of_label = objects.labels[None] == found.labels[here, None] + shift
            shifted[shift] += int((on & of_label).any(axis=1).sum())
    return hits, shifted
