"""``read_detections``: the one reader of files in COCO's results format."""

from pathlib import Path
from typing import Any

import numpy as np

from longtail.annotations.checks import boxes_of, check_records, column, finite_numbers, places_in, shown, whole_numbers
from longtail.encoded_masks import as_run_lengths, find_fault
from longtail.errors import DataError
from longtail.json_files import read_json
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_truth import DetectionTruth

_FIX = "give image_id, category_id, score and bbox (xywh) or segmentation for every detection"
_NAME = "detections"


def read_detections(path: str | Path, truth: DetectionTruth) -> DetectionArrays:
    """Read a file in COCO's results format.

    Args:
        path: JSON list of objects with ``image_id``, ``category_id``, ``score``, and ``bbox`` (xywh), ``segmentation``
            or both. Detections without boxes get those of their masks, and the sizes of their masks. Where the
            annotations are of a layout without ids, ``image_id`` may be the name of a file.
        truth: The annotations that they are to be scored against.

    Raises:
        DataError: The file is not that; a detection is named that lacks a value, or has one of another kind, or is of
            an image or a category that the annotations do not have, or whose ``file_name`` is of another image.
    """
    records = read_json(path, _NAME, "give a JSON file in COCO's results format")
    if not isinstance(records, list):
        raise DataError(f"{path} is no list of detections", fix="give a file in COCO's results format")
    check_records(records, _NAME, path, _FIX)
    images = _image_ids(path, records, truth)
    categories = whole_numbers(path, _NAME, records, "category_id", _FIX)
    given = column(records, "score", _NAME, path, _FIX)
    scores, wrong = finite_numbers(given)
    if wrong is not None:
        raise DataError(f"{_NAME}[{wrong}] of {path} has the score {shown(given[wrong])}, no finite number", fix=_FIX)
    places = _known(path, "images", images, truth.image_ids, _image_fix(truth))
    _compare_names(path, records, truth, places)
    labels = _known(path, "categories", categories, truth.category_ids, _category_fix(categories, truth))
    masks = _given(path, records, "segmentation", _is_mask)
    if masks is not None and (fault := find_fault(masks, [truth.sizes[place] for place in places])):
        raise DataError(f"{path}: mask of detection {fault[0]}: {fault[1]}", fix="give masks of the image's size")
    boxes = _given(path, records, "bbox", lambda box: box is not None and box != [])
    if boxes is None and masks is None and records:
        raise DataError(f"{_NAME}[0] of {path} has neither bbox nor segmentation", fix=_FIX)
    if boxes is not None:
        xyxy, wrong = boxes_of(boxes)
        if wrong is not None:
            raise DataError(
                f"{_NAME}[{wrong}] of {path} has the box {shown(boxes[wrong])}",
                fix="give boxes as [x, y, width, height], of no negative size, within 2^31 pixels",
            )
        return DetectionArrays(images, xyxy, scores, labels, masks)
    runs = [_run_lengths(path, i, mask, truth.sizes[places[i]]) for i, mask in enumerate(masks or [])]
    return DetectionArrays(images, _boxes_of_masks(runs), scores, labels, runs or None, sized_by_masks=True)


def _image_ids(path: str | Path, records: list[dict[str, Any]], truth: DetectionTruth) -> np.ndarray:
    """Ids of the images; names of files are looked up where the annotations have no ids of their own."""
    by_name = truth.ids_by_name
    if by_name:
        records = [
            {**record, "image_id": by_name.get(name, name)}
            if isinstance(name := record.get("image_id"), str)
            else record
            for record in records
        ]
    return whole_numbers(path, _NAME, records, "image_id", _image_fix(truth) if by_name else _FIX)


def _image_fix(truth: DetectionTruth) -> str:
    """The way out of unknown images."""
    if truth.ids_by_name:
        example = next(iter(truth.ids_by_name))
        return f"give the file name of each image as image_id, such as {example!r}, or predict with --annotations"
    return "score them against the annotations of the same split"


def _compare_names(path: str | Path, records: list[dict[str, Any]], truth: DetectionTruth, places: np.ndarray) -> None:
    """Refuse detections whose ``file_name``, where they have one, is of another image than their id."""
    if not any("file_name" in record for record in records):
        return
    stems = [_stem(name) for name in truth.file_names]
    for number, (record, place) in enumerate(zip(records, places.tolist(), strict=True)):
        name = record.get("file_name")
        if isinstance(name, str) and stems[place] and _stem(name) != stems[place]:
            raise DataError(
                f"{_NAME}[{number}] of {path} is of {name}, but its image_id {record['image_id']} is that of "
                f"{truth.file_names[place]} in the annotations",
                fix="predict with --annotations, or leave file_name out if the ids are right",
            )


def _stem(name: str) -> str:
    """Name of a file without its folders and its suffix."""
    file = name.replace("\\", "/").rpartition("/")[2]
    return file.rpartition(".")[0] or file


def _known(path: str | Path, what: str, named: np.ndarray, known: np.ndarray, fix: str) -> np.ndarray:
    """Places of ids of the file among those of the annotations."""
    place, there = places_in(known, named)
    if not there.all():
        raise DataError(
            f"{(~there).sum()} detections in {path} are of {what} that the annotations do not list, such as "
            f"{named[~there][0]} ({_NAME}[{int(np.argmin(there))}])",
            fix=fix,
        )
    return place


def _category_fix(categories: np.ndarray, truth: DetectionTruth) -> str:
    """The way out of unknown categories; says where ids that are shifted by one would fit."""
    for shift in (1, -1):
        if np.isin(categories + shift, truth.category_ids).all():
            return f"the ids seem to be off by one: those of the annotations are {'higher' if shift > 0 else 'lower'}"
    if np.isin(categories, np.arange(truth.num_classes)).all():
        return "the ids seem to be class numbers from 0: write the category ids of the annotation file"
    return "use the category ids of the annotation file"


def _is_mask(value: Any) -> bool:
    return value is not None and value not in ([], [[]])


def _given(path: str | Path, records: list[dict[str, Any]], key: str, is_given: Any) -> list[Any] | None:
    """What all detections have under a key; None where none has it.

    Raises:
        DataError: Some have it and some do not.
    """
    values = [record.get(key) for record in records]
    there = [is_given(value) for value in values]
    if all(there):
        return values if values else None
    if any(there):
        raise DataError(
            f"{_NAME}[{there.index(False)}] of {path} has no {key}, and {_NAME}[{there.index(True)}] has one",
            fix=f"give {key} for all detections or for none",
        )
    return None


def _run_lengths(path: str | Path, place: int, mask: Any, size: tuple[int, int] | None) -> dict[str, Any]:
    if isinstance(mask, list) and size is None:
        raise DataError(
            f"{_NAME}[{place}] of {path} is a polygon in an image whose size the annotations do not say",
            fix="give run lengths, or height and width of the images",
        )
    try:
        return as_run_lengths(mask, size)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: mask of detection {place}: {error}", fix="give masks of the image's size") from error


def _boxes_of_masks(runs: list[dict[str, Any]]) -> np.ndarray:
    from hotcoco import mask

    boxes = np.asarray(mask.to_bbox(runs), dtype=np.float64).reshape(-1, 4) if runs else np.zeros((0, 4))
    boxes[:, 2:] += boxes[:, :2]
    return boxes
