"""``predict_detection``: detections in COCO's results format and drawn pictures, for photographs; restartable."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from longtail.annotations.coco_file import CocoFile
from longtail.annotations.read import read_coco_file
from longtail.datasets.rgb_photographs import as_rgb
from longtail.detection.drawing import above_thresholds, best_detections, draw
from longtail.errors import DataError
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.operating_points import DEFAULT_THRESHOLD
from longtail.models.detector import Detector
from longtail.training.predict import Predicted, join_videos, predict_each
from longtail.training.predict_folder import PredictionFolder

#: Detections drawn on one picture at most: more hide it.
_DRAWN = 100


def predict_detection(
    detector: Detector,
    images: Mapping[str, Path],
    out: str | Path,
    *,
    annotations: str | Path | CocoFile | None = None,
    threshold: float = DEFAULT_THRESHOLD,
    thresholds: Float[np.ndarray, "classes"] | None = None,
    scales: Sequence[float] | None = None,
    flip: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Predicted:
    """Write all detections as ``detections.json`` and, for each image, ``detections/NAME.json`` and ``pictures/NAME.jpg``.

    ``detections.json`` is a list in COCO's results format with the category ids of the training annotations;
    ``images.json`` says which image that could be read has which id. An image's own file has no ids of images, which
    other images or ``annotations`` can change. Images that are written already are skipped; ``made_by.json`` says which
    model wrote them, with which options. Under a launcher of several processes each takes its share, and the last one
    to end leaves the whole list. A corrupt image is named at the end and stops no other.

    Args:
        detector: On the device to compute on.
        images: Name -> file, as ``find_images`` gives it.
        out: Folder to write into.
        annotations: COCO-style file that lists the images, or what was read of a data set: the detections get its image
            ids. Without it, file names that are numbers are the ids, as COCO has them; else images count from 1, and
            every detection has its ``file_name``.
        threshold: Detections that score less are not drawn; the files have them.
        thresholds: One for each class: detections that score less are left out of the files as well, and all others are
            drawn. ``threshold`` serves a class whose own is NaN.
        scales: See ``Detector.predict``.
        flip: See ``Detector.predict``.
        overwrite: Whether to predict again what is written already, by whatever model.
        progress: Show a bar on a terminal.

    Raises:
        ConfigError: The folder holds predictions of another model, with other options or of other files of these names,
            or cannot be written.
        DataError: The annotation file does not list an image.
    """
    folder = PredictionFolder(Path(out), {"detections": ".json", "pictures": ".jpg"})
    ids = image_ids(images, annotations)
    made_by = {"model": detector.fingerprint(), "scales": scales, "flip": flip, "threshold": threshold}
    own = None if thresholds is None else np.where(np.isnan(thresholds), threshold, thresholds)
    made_by["thresholds"] = None if own is None else own.tolist()

    def write(name: str, pixels: Tensor) -> None:
        found = detector.predict(pixels, scales=scales, flip=flip)
        if own is not None:
            found = above_thresholds(found, torch.from_numpy(own))
        best = best_detections(found, _DRAWN, threshold if own is None else 0.0)
        drawn = draw(as_rgb(pixels), best, detector.class_names, detector.palette)
        records = DetectionArrays.collect([ids[name]], [found]).records(detector.category_ids)
        for record in records:
            del record["image_id"]
        folder.write(folder.file("pictures", name), partial(drawn.save, format="JPEG", quality=90))
        _write_json(folder, records, folder.file("detections", name))

    done = predict_each(folder, images, made_by, detector.photos, write, overwrite=overwrite, progress=progress)
    _join(folder, images, ids, named=annotations is None)
    join_videos(folder, images, "pictures")
    return done


def image_ids(images: Mapping[str, Path], annotations: str | Path | CocoFile | None = None) -> dict[str, int]:
    """Id of every image by name; see ``predict_detection``.

    Raises:
        DataError: The annotation file does not list an image.
    """
    if annotations is None:
        numbers = {name: path.stem for name, path in images.items()}
        if all(n.isascii() and n.isdigit() for n in numbers.values()) and len({*map(int, numbers.values())}) == len(
            images
        ):
            return {name: int(number) for name, number in numbers.items()}
        return {name: place for place, name in enumerate(images, start=1)}
    file = annotations if isinstance(annotations, CocoFile) else read_coco_file(annotations)
    known: dict[str, int] = {}
    for record in file.images:
        path = Path(str(record.get("file_name") or record.get("coco_url") or record["id"]))
        # a file is looked for with its folder first, then by its name alone
        known.setdefault(path.name, int(record["id"]))
        known["/".join(path.parts[-2:])] = int(record["id"])
    found = {}
    for name, path in images.items():
        keys = ("/".join(path.resolve().parts[-2:]), path.name)
        identity = next((known[key] for key in keys if key in known), None)
        if identity is None:
            raise DataError(f"{file.path} does not list {path}", fix="predict the images of the annotations")
        found[name] = identity
    return found


def _join(folder: PredictionFolder, images: Mapping[str, Path], ids: Mapping[str, int], *, named: bool) -> None:
    """One list of the results of all processes, and the ids; ``named``: each result has its file's name."""
    there = [name for name in images if folder.file("detections", name).is_file()]
    _write_json(
        folder,
        [
            {"image_id": ids[name], **({"file_name": images[name].name} if named else {}), **record}
            for name in there
            for record in json.loads(folder.file("detections", name).read_text())
        ],
        folder.path / "detections.json",
    )
    listed = [{"id": ids[name], "file_name": str(images[name])} for name in there]
    _write_json(folder, listed, folder.path / "images.json", indent=1)


def _write_json(folder: PredictionFolder, values: list[dict[str, Any]], path: Path, indent: int | None = None) -> None:
    folder.write(path, lambda part: part.write_text(json.dumps(values, indent=indent) + "\n"))


__all__ = ["image_ids", "predict_detection"]
