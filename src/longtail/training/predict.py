"""``predict``: label images and overlays for photographs, one after another, restartable."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from longtail.datasets.pairing import IMAGE_SUFFIXES
from longtail.datasets.photographs import PhotoFormat
from longtail.datasets.rgb_photographs import as_rgb
from longtail.datasets.video import VIDEO_SUFFIXES, frame_names, frame_rate, frames, is_video, write_video
from longtail.errors import ConfigError, DataError
from longtail.folders import files_by_name
from longtail.models.segmenter import Segmenter
from longtail.progress import with_progress
from longtail.settings import one_of
from longtail.training.polygons import as_coco, polygons_of
from longtail.training.predict_folder import PredictionFolder

#: Sub-folder of each kind of result -> suffix of its files.
Saved = Literal["labels", "overlays", "probabilities", "polygons"]
SAVED: dict[Saved, str] = {"labels": ".png", "overlays": ".png", "probabilities": ".npy", "polygons": ".geojson"}
_AHEAD = 2  # photographs that are read while the network works


@dataclass
class Predicted:
    """Counts of predicted and skipped images.

    Args:
        written: Number of images predicted.
        skipped: Number of images that were there already.
        failed: One error for each image that cannot be read.
    """

    written: int = 0
    skipped: int = 0
    failed: list[DataError] = field(default_factory=list)


def find_images(sources: Sequence[str | Path]) -> dict[str, Path]:
    """Name -> file of images and of all images in folders, and of every frame of videos; names keep sub-folders.

    Raises:
        DataError: A source does not exist, there is no image, or two in a folder differ by their extension alone.
        ConfigError: Two images would be written to one name.
    """
    found: dict[str, Path] = {}
    for source in map(Path, sources):
        if not source.exists():
            raise DataError(f"{source} does not exist", fix="give image files or folders of them")
        for name, path in _listed(source).items():
            if name in found:
                raise ConfigError(
                    f"the results of {found[name]} and {path} would both be named {name}",
                    fix="predict them separately, each into an --out of its own",
                )
            found[name] = path
    if not found:
        raise DataError(f"no images in {', '.join(map(str, sources))}", fix="give image files or folders of them")
    return found


def _listed(source: Path) -> dict[str, Path]:
    if not source.is_dir():
        return _frames({source.stem: source})
    try:
        return _frames(files_by_name(source, IMAGE_SUFFIXES | VIDEO_SUFFIXES, "images"))
    except DataError as error:
        raise DataError(
            error.problem,
            fix="rename one of them, for results are named without the extension; or give the files of one extension, "
            f"such as {source}/*.png, and the others with another --out",
        ) from error


def _frames(files: Mapping[str, Path]) -> dict[str, Path]:
    """Names of images, and of the frames of videos."""
    return {
        each: path for name, path in files.items() for each in (frame_names(path, name) if is_video(path) else [name])
    }


def predict(
    segmenter: Segmenter,
    images: Mapping[str, Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    window: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    save: Sequence[Saved] = ("labels", "overlays"),
    opacity: float = 0.6,
    progress: bool = False,
) -> Predicted:
    """Write what is asked for of each image, by its name, and ``overlays/NAME.mp4`` of each video.

    ``labels/NAME.png`` holds class ids (16 bits beyond 256 classes), ``overlays/NAME.png`` the picture and its classes'
    colours, ``probabilities/NAME.npy`` float16 (classes, h, w), ``polygons/NAME.geojson`` the regions; ``polygons.json``
    has those of all images as a COCO data set.

    Images that are written already are skipped; ``made_by.json`` says which model wrote them, with which options.
    Under a launcher of several processes (torchrun, SLURM) each takes its share. A corrupt image is named at the end
    and stops no other.

    Args:
        segmenter: A ``Segmenter``, on the device to compute on.
        images: Name -> file, as ``find_images`` gives it.
        out: Folder to write into.
        overwrite: Whether to replace predictions that exist, of any model.
        window: Height and width of a sliding window; the whole image at once where not given.
        stride: Step of the window.
        save: What is written.
        opacity: Share of the class colour in an overlay.
        progress: Show a bar on a terminal.

    Raises:
        ConfigError: The folder holds predictions of another model, with other options or of other files of these names,
            or cannot be written.
    """
    folder = PredictionFolder(Path(out), {kind: SAVED[one_of("save", kind, SAVED)] for kind in save})
    made_by = {"model": segmenter.fingerprint(), "window": window, "stride": stride, "opacity": opacity}
    palette = np.asarray(segmenter.palette, dtype=np.float32)
    told: set[tuple[int, int]] = set()

    def write(name: str, pixels: torch.Tensor) -> None:
        height, width = int(pixels.shape[-2]), int(pixels.shape[-1])
        fitting = None if window or (height, width) in told else segmenter.fitting_window(height, width)
        if fitting is not None:
            told.add((height, width))
            sys.stderr.write(
                f"{name} ({width} x {height}) and all of its size are read by windows of {fitting[1]} x {fitting[0]}: "
                "the whole image needs more than half of the memory that is free\n"
            )
        values: dict[Saved, Any] = {}
        if "probabilities" in save:
            scores = segmenter.probabilities(pixels, window=window, stride=stride)
            values["probabilities"], ids = scores.half().cpu().numpy(), scores.argmax(dim=0).cpu().numpy()
        else:
            ids = segmenter.predict(pixels, window=window, stride=stride).cpu().numpy()
        values["labels"] = ids.astype(np.uint8 if len(palette) <= 256 else np.uint16)
        if "overlays" in save:
            photo = as_rgb(pixels).permute(1, 2, 0).numpy()
            values["overlays"] = (photo * (1 - opacity) + palette[ids] * opacity).round().astype(np.uint8)
        if "polygons" in save:
            values["polygons"] = polygons_of(ids, segmenter.class_names)
        for kind in save:
            folder.write(folder.file(kind, name), partial(_write, values[kind]))

    done = predict_each(folder, images, made_by, segmenter.photos, write, overwrite=overwrite, progress=progress)
    if "overlays" in save:
        join_videos(folder, images, "overlays")
    if "polygons" in save:
        _join_polygons(folder, images, segmenter)
    return done


def _write(values: Any, path: Path) -> None:
    """A GeoJSON object, an array of probabilities, or a picture."""
    if isinstance(values, dict):
        path.write_text(json.dumps(values) + "\n")
    elif values.dtype == np.float16:
        with path.open("wb") as file:  # numpy would add its own ending to a name
            np.save(file, values)
    else:
        Image.fromarray(values).save(path, format="PNG")


def _join_polygons(folder: PredictionFolder, images: Mapping[str, Path], segmenter: Segmenter) -> None:
    """One COCO data set of the polygons of all images that are written."""
    files = {name: folder.file("polygons", name) for name in images}
    there = {name: path for name, path in files.items() if path.is_file()}
    content = json.dumps(as_coco(there, images, segmenter.class_names))
    folder.write(folder.path / "polygons.json", lambda part: part.write_text(content + "\n"))


def join_videos(folder: PredictionFolder, images: Mapping[str, Path], kind: str) -> None:
    """Write ``KIND/NAME.mp4`` from the pictures of the frames of each video, once all are there.

    Args:
        folder: Where the pictures are.
        images: Name -> file.
        kind: Their sub-folder.
    """
    for video in dict.fromkeys(path for path in images.values() if is_video(path)):
        names = [name for name, path in images.items() if path == video]
        pictures = [folder.file(kind, name) for name in names]
        target = folder.path / kind / f"{names[0].rpartition('/')[0]}.mp4"
        if all(picture.is_file() for picture in pictures) and not target.is_file():
            shown = (np.array(Image.open(picture).convert("RGB")) for picture in pictures)
            folder.write(target, partial(write_video, pictures=shown, rate=frame_rate(video)))


def predict_each(
    folder: PredictionFolder,
    images: Mapping[str, Path],
    made_by: Mapping[str, Any],
    photos: PhotoFormat,
    write: Callable[[str, torch.Tensor], None],
    *,
    overwrite: bool,
    progress: bool,
) -> Predicted:
    """Predict every image of this process that is not written already; the next ones are read meanwhile.

    Args:
        folder: Where to write.
        images: Name -> file.
        made_by: The model and the options.
        photos: How photographs are read.
        write: (name, pixels) -> predicts, and writes the results.
        overwrite: Whether to replace predictions that exist.
        progress: Show a bar on a terminal.
    """
    wanted, skipped = folder.prepare(images, made_by, overwrite=overwrite)
    done = Predicted(skipped=skipped)
    loaded = read_ahead(wanted, photos)
    for name, pending in with_progress(loaded, len(wanted), "predicting", shown=progress):
        try:
            pixels = pending.result()
        except DataError as error:
            done.failed.append(error)
            continue
        write(name, pixels)
        done.written += 1
    return done


def read_ahead(wanted: Sequence[tuple[str, Path]], photos: PhotoFormat) -> Iterator[tuple[str, Future[torch.Tensor]]]:
    """Name and pixels of images in order, then of frames; the next images are read while the network works."""
    with ThreadPoolExecutor(1) as reader:
        pending: list[tuple[str, Future[torch.Tensor]]] = []
        for name, path in (pair for pair in wanted if not is_video(pair[1])):
            pending.append((name, reader.submit(photos.read, path)))
            if len(pending) > _AHEAD:
                yield pending.pop(0)
        yield from pending
    for video in dict.fromkeys(path for _, path in wanted if is_video(path)):
        numbers = {int(name.rpartition("/")[2]): name for name, path in wanted if path == video}
        for name, frame in zip(numbers.values(), frames(video, numbers), strict=True):
            ready: Future[torch.Tensor] = Future()
            ready.set_result(frame)
            yield name, ready
