"""``predict_detection``: detections in COCO's results format and drawn pictures, for photographs; restartable."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.progress import track

from longtail.datasets.coco_file import read_coco_file
from longtail.detection.drawing import best_detections, draw
from longtail.errors import DataError
from longtail.mec.detector import Detector
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.training.checkpoints import write_whole
from longtail.training.predict import Predicted, environment_world_size, read_ahead
from longtail.training.run_folder import environment_rank

#: Detections drawn on one picture at most: more hide it.
_DRAWN = 100


def predict_detection(
    detector: Detector,
    images: Mapping[str, Path],
    out: str | Path,
    *,
    annotations: str | Path | None = None,
    threshold: float = 0.3,
    scales: Sequence[float] | None = None,
    flip: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Predicted:
    """Write all detections as ``detections.json`` and, for each image, ``detections/NAME.json`` and ``pictures/NAME.jpg``.

    ``detections.json`` is a list in COCO's results format with the category ids of the training annotations;
    ``images.json`` says which image has which id. Under a launcher of several processes each takes its share, and the
    last one to end leaves the whole list. A corrupt image is named at the end and stops no other.

    Args:
        detector: On the device to compute on.
        images: Name -> file, as ``find_images`` gives it.
        out: Folder to write into.
        annotations: COCO-style file that lists the images: the detections get its image ids. Without it, file names
            that are numbers are the ids, as COCO has them; else images count from 1.
        threshold: Detections that score less are not drawn; the files have them.
        scales: See ``Detector.predict``.
        flip: See ``Detector.predict``.
        overwrite: Whether to predict again what is written already.
        progress: Show a bar on a terminal.

    Raises:
        DataError: The annotation file does not list an image.
        TrainingError: The results cannot be written.
    """
    folder = Path(out)
    ids = image_ids(images, annotations)
    done = Predicted()
    wanted = []
    for name, path in list(images.items())[environment_rank() :: environment_world_size()]:
        if not overwrite and _record(folder, name).is_file() and _picture(folder, name).is_file():
            done.skipped += 1
        else:
            wanted.append((name, path))
    loaded = read_ahead(wanted)
    for name, pending in track(loaded, "predicting", len(wanted), transient=True) if progress else loaded:
        try:
            pixels = pending.result()
        except DataError as error:
            done.failed.append(error)
            continue
        found = detector.predict(pixels, scales=scales, flip=flip)
        drawn = draw(pixels, best_detections(found, _DRAWN, threshold), detector.class_names, detector.palette)
        arrays = DetectionArrays.collect([ids[name]], [found])
        write_whole(_picture(folder, name), lambda part, drawn=drawn: drawn.save(part, format="JPEG", quality=90))  # type: ignore[misc]
        write_whole(_record(folder, name), lambda part, arrays=arrays: arrays.to_json(part, detector.category_ids))  # type: ignore[misc]
        done.written += 1
    _join(folder, images, ids)
    return done


def image_ids(images: Mapping[str, Path], annotations: str | Path | None = None) -> dict[str, int]:
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
    file = read_coco_file(annotations)
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
            raise DataError(f"{annotations} does not list {path}", fix="predict the images of the annotation file")
        found[name] = identity
    return found


def _join(folder: Path, images: Mapping[str, Path], ids: Mapping[str, int]) -> None:
    """One list of what all processes have written so far, and the ids."""
    records = [
        r for name in images if _record(folder, name).is_file() for r in json.loads(_record(folder, name).read_text())
    ]
    listed = [{"id": ids[name], "file_name": str(path)} for name, path in images.items()]
    write_whole(folder / "detections.json", lambda part: part.write_text(json.dumps(records)))
    write_whole(folder / "images.json", lambda part: part.write_text(json.dumps(listed, indent=1) + "\n"))


def _record(folder: Path, name: str) -> Path:
    return folder / "detections" / f"{name}.json"


def _picture(folder: Path, name: str) -> Path:
    return folder / "pictures" / f"{name}.jpg"


__all__ = ["image_ids", "predict_detection"]
