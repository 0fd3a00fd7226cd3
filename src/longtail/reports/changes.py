"""The images on which one run finds more or fewer of the objects than another, from the objects that both have kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.ops import box_iou

from longtail.detection.drawing import draw, from_record
from longtail.detection.method import Detections
from longtail.reports.comparison import Comparison, Entry
from longtail.reports.pictures import PictureRow, data_uri, read_index, read_record, small_photo, swatch

_IOU = 0.5
_SHOWN = 4
_LONGEST_SIDE = 560


@dataclass(frozen=True)
class Change:
    """An image that two runs saw.

    Args:
        name: Its name.
        gain: Objects found more than before, each weighted by the rarity of its class; negative where fewer.
        found: Classes of the objects that only the later run found.
        lost: Classes of the objects that only the earlier run found.
    """

    name: str
    gain: float
    found: tuple[int, ...]
    lost: tuple[int, ...]


def changed_rows(comparison: Comparison) -> tuple[list[PictureRow], list[PictureRow]]:
    """The images with the largest gains and those with the largest losses of the method against the baseline.

    Raises:
        DataError: The objects that a run has kept cannot be read.
    """
    before, after = comparison.baseline, comparison.method
    if before is None or before.run.pictures is None or after.run.pictures is None:
        return [], []
    old, new = _objects(before.run.pictures), _objects(after.run.pictures)
    names = [n for n in old if n in new and before.name in old[n] and after.name in new[n]]
    weights = class_weights(comparison)
    changes = [
        _change(name, old[name][before.name], new[name][after.name], new[name]["truth"], weights) for name in names
    ]
    columns = [(before, old), (after, new)]
    gains, losses = (_largest([c for c in changes if sign * c.gain > 0]) for sign in (1, -1))
    return [_row(comparison, c, columns) for c in gains], [_row(comparison, c, columns) for c in losses]


def _largest(changes: list[Change]) -> list[Change]:
    """The largest changes, one of each kind: frames of one film would else all show the same."""
    kinds: dict[tuple[frozenset[int], frozenset[int]], Change] = {}
    for change in sorted(changes, key=lambda c: (-abs(c.gain), c.name)):
        kinds.setdefault((frozenset(change.found), frozenset(change.lost)), change)
    return list(kinds.values())[:_SHOWN]


def class_weights(comparison: Comparison) -> np.ndarray:
    """Weight of an object of each class, float64 (C,): one over the square root of its training instances."""
    if comparison.counts is None:
        return np.ones(len(comparison.class_names))
    return 1 / np.sqrt(np.maximum(comparison.counts[0], 1))


def matched(truth: Detections, detections: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Which objects are found, and which detections are right.

    Detections in order of score take the object of their class that they overlap most, by at least half, and that no
    better one has taken: COCO's rule at its first threshold.

    Args:
        truth: n objects.
        detections: m detections, best first.

    Returns:
        bool (n,) and bool (m,).
    """
    found, right = np.zeros(len(truth), dtype=bool), np.zeros(len(detections), dtype=bool)
    if not len(truth) or not len(detections):
        return found, right
    overlap = box_iou(detections.boxes.double(), truth.boxes.double()).nan_to_num().numpy()
    overlap[detections.labels.numpy()[:, None] != truth.labels.numpy()] = 0
    for place, row in enumerate(overlap):
        best = int(np.where(found, 0, row).argmax())
        if not found[best] and row[best] >= _IOU:
            found[best] = right[place] = True
    return found, right


def _change(name: str, old: Any, new: Any, truth: Any, weights: np.ndarray) -> Change:
    objects = from_record(truth)
    before, after = (matched(objects, from_record(record))[0] for record in (old, new))
    labels = objects.labels.numpy()
    gain = float((weights[labels] * (after.astype(float) - before)).sum())
    return Change(name, gain, tuple(labels[after & ~before].tolist()), tuple(labels[before & ~after].tolist()))


def _row(comparison: Comparison, change: Change, columns: Sequence[tuple[Entry, dict[str, Any]]]) -> PictureRow:
    """Truth, and what each run finds: right in the colour of its class, the rest pale."""
    folder = comparison.focus.pictures
    assert folder is not None
    names = comparison.class_names
    palette = read_index(folder, len(names))[1]
    photo = small_photo(folder / f"{change.name}.input.jpg", _LONGEST_SIDE)
    truth = from_record(columns[-1][1][change.name]["truth"])
    shown: list[tuple[str, Detections, list[bool] | None]] = [("Truth", truth, None)]
    for entry, objects in columns:
        detections = from_record(objects[change.name][entry.name])
        shown.append((entry.label, detections, (~matched(truth, detections)[1]).tolist()))
    pictures = [
        (heading, data_uri(draw(photo, detections, names, palette[: len(names)].tolist(), wrong)))
        for heading, detections, wrong in shown
    ]
    swatches = []
    for word, classes in (("found", change.found), ("lost", change.lost)):
        for c in comparison.order[::-1].tolist():  # the rarest first
            if many := classes.count(c):
                words = f"{word}: {names[c]}{f' ×{many}' if many > 1 else ''}"
                swatches.append(swatch(comparison, c, words, palette))
    return PictureRow(change.name, pictures, swatches)


def _objects(folder: Path) -> dict[str, Any]:
    """Image name -> truth and detections; empty where the run has kept none."""
    path = folder / "objects.json"
    return read_record(path, list) if path.is_file() else {}
