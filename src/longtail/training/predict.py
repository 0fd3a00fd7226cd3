"""``predict``: label images and overlays for photographs, one after another, restartable."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from longtail.datasets.image_files import list_images, read_image
from longtail.errors import ConfigError, DataError
from longtail.training.checkpoints import write_whole
from longtail.training.run_folder import environment_rank

_AHEAD = 2  # photographs that are read while the network works


@runtime_checkable
class LabelsPictures(Protocol):
    """What ``longtail.medoe.Segmenter`` is to prediction."""

    @property
    def palette(self) -> Sequence[Sequence[int]]: ...

    def predict(
        self, image: torch.Tensor, *, window: tuple[int, int] | None = None, stride: tuple[int, int] | None = None
    ) -> torch.Tensor: ...


@dataclass
class Predicted:
    """What became of the images of this process.

    Args:
        written: Number of images predicted.
        skipped: Number of images that were there already.
        failed: One error an image that cannot be read.
    """

    written: int = 0
    skipped: int = 0
    failed: list[DataError] = field(default_factory=list)


def find_images(sources: Sequence[str | Path]) -> dict[str, Path]:
    """Name -> file of images and of all images in folders; names keep sub-folders.

    Raises:
        DataError: A source does not exist, or there is no image.
        ConfigError: Two images would be written to one name.
    """
    found: dict[str, Path] = {}
    for source in map(Path, sources):
        if not source.exists():
            raise DataError(f"{source} does not exist", fix="give image files or folders of them")
        for name, path in (list_images(source, "images") if source.is_dir() else {source.stem: source}).items():
            if name in found:
                raise ConfigError(
                    f"{found[name]} and {path} would both be written as {name}.png", fix="predict them separately"
                )
            found[name] = path
    if not found:
        raise DataError(f"no images in {', '.join(map(str, sources))}", fix="give image files or folders of them")
    return found


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

    Under a launcher of several processes (torchrun, SLURM) each takes its share. A corrupt image is named at the end
    and stops no other.

    Args:
        segmenter: A ``Segmenter``, on the device to compute on.
        images: Name -> file, as ``find_images`` gives it.
        out: Folder to write into.
        overwrite: Whether to predict again what is written already.
        window: Height and width of a sliding window; the whole image at once where not given.
        stride: Step of the window.
        opacity: Share of the class colour in an overlay.
        progress: Show a bar on a terminal.

    Raises:
        TrainingError: The results cannot be written.
    """
    labels, overlays = Path(out) / "labels", Path(out) / "overlays"
    mine = list(images.items())[environment_rank() :: environment_world_size()]
    done = Predicted()
    wanted = []
    for name, path in mine:
        there = all((folder / f"{name}.png").is_file() for folder in (labels, overlays))
        if there and not overwrite:
            done.skipped += 1
        else:
            wanted.append((name, path))
    palette = np.asarray(segmenter.palette, dtype=np.float32)
    loaded = read_ahead(wanted)
    for name, pending in track(loaded, "predicting", len(wanted), transient=True) if progress else loaded:
        try:
            pixels = pending.result()
        except DataError as error:
            done.failed.append(error)
            continue
        ids = segmenter.predict(pixels, window=window, stride=stride).cpu().numpy()
        stored = ids.astype(np.uint8 if len(palette) <= 256 else np.uint16)
        photo = pixels.permute(1, 2, 0).numpy()
        overlay = (photo * (1 - opacity) + palette[ids] * opacity).round().astype(np.uint8)
        _write_png(overlay, overlays / f"{name}.png")
        _write_png(stored, labels / f"{name}.png")
        done.written += 1
    return done


def read_ahead(wanted: Sequence[tuple[str, Path]]) -> Iterator[tuple[str, Future[torch.Tensor]]]:
    """Name and pixels of images in order; the next ones are read while the network works."""
    with ThreadPoolExecutor(1) as reader:
        pending: list[tuple[str, Future[torch.Tensor]]] = []
        for name, path in wanted:
            pending.append((name, reader.submit(read_image, path)))
            if len(pending) > _AHEAD:
                yield pending.pop(0)
        yield from pending


def _write_png(values: np.ndarray, path: Path) -> None:
    write_whole(path, lambda part: Image.fromarray(values).save(part, format="PNG"))


def environment_world_size() -> int:
    """Number of processes as their launcher says, before a process group exists."""
    for name in ("WORLD_SIZE", "SLURM_NTASKS"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 1
