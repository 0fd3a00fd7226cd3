"""``predict``: label images and overlays for photographs, one after another, restartable."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from longtail.datasets.pairing import IMAGE_SUFFIXES
from longtail.datasets.photographs import PhotoFormat
from longtail.datasets.rgb_photographs import as_rgb
from longtail.errors import ConfigError, DataError
from longtail.folders import files_by_name
from longtail.progress import with_progress
from longtail.training.predict_folder import PredictionFolder

_AHEAD = 2  # photographs that are read while the network works


@runtime_checkable
class LabelsPictures(Protocol):
    """Interface of ``longtail.models.segmenter.Segmenter`` for prediction."""

    @property
    def palette(self) -> Sequence[Sequence[int]]: ...

    @property
    def photos(self) -> PhotoFormat: ...

    def fingerprint(self) -> str: ...

    def predict(
        self, image: torch.Tensor, *, window: tuple[int, int] | None = None, stride: tuple[int, int] | None = None
    ) -> torch.Tensor: ...


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
    """Name -> file of images and of all images in folders; names keep sub-folders.

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
        return {source.stem: source}
    try:
        return files_by_name(source, IMAGE_SUFFIXES, "images")
    except DataError as error:
        raise DataError(
            error.problem,
            fix="rename one of them, for results are named without the extension; or give the files of one extension, "
            f"such as {source}/*.png, and the others with another --out",
        ) from error


def predict(
    segmenter: LabelsPictures,
    images: Mapping[str, Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    window: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    opacity: float = 0.6,
    progress: bool = False,
) -> Predicted:
    """Write ``labels/NAME.png`` (class ids; 16 bits beyond 256 classes) and ``overlays/NAME.png`` for each image.

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
        opacity: Share of the class colour in an overlay.
        progress: Show a bar on a terminal.

    Raises:
        ConfigError: The folder holds predictions of another model, with other options or of other files of these names,
            or cannot be written.
    """
    folder = PredictionFolder(Path(out), {"labels": ".png", "overlays": ".png"})
    made_by = {"model": segmenter.fingerprint(), "window": window, "stride": stride, "opacity": opacity}
    palette = np.asarray(segmenter.palette, dtype=np.float32)

    def write(name: str, pixels: torch.Tensor) -> None:
        ids = segmenter.predict(pixels, window=window, stride=stride).cpu().numpy()
        stored = ids.astype(np.uint8 if len(palette) <= 256 else np.uint16)
        photo = as_rgb(pixels).permute(1, 2, 0).numpy()
        overlay = (photo * (1 - opacity) + palette[ids] * opacity).round().astype(np.uint8)
        for kind, values in (("overlays", overlay), ("labels", stored)):
            folder.write(folder.file(kind, name), partial(Image.fromarray(values).save, format="PNG"))

    return predict_each(folder, images, made_by, segmenter.photos, write, overwrite=overwrite, progress=progress)


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
    """Name and pixels of images in order; the next ones are read while the network works."""
    with ThreadPoolExecutor(1) as reader:
        pending: list[tuple[str, Future[torch.Tensor]]] = []
        for name, path in wanted:
            pending.append((name, reader.submit(photos.read, path)))
            if len(pending) > _AHEAD:
                yield pending.pop(0)
        yield from pending
