"""``count_pixels``: pixels and images of every class, in one parallel pass over the label files."""

import multiprocessing
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from longtail.errors import DataError
from longtail.files import replace_file
from longtail.frequency.counts import ClassFrequency
from longtail.frequency.label_format import PLAIN, LabelFormat
from longtail.frequency.label_image import class_histogram, open_label, value_histogram
from longtail.progress import with_progress

_MIN_PARALLEL = 128  # below, starting processes costs more than it saves
_SERIAL_CHUNK = 16  # images between two steps of the progress bar


@runtime_checkable
class ClassNames(Protocol):
    """Names of the classes, in the order of their ids."""

    @property
    def names(self) -> tuple[str, ...]: ...


@runtime_checkable
class LabelledImages(Protocol):
    """What counting asks of a data set; every ``longtail.datasets.base.SegmentationDataset`` has it."""

    ignore_index: int

    def __len__(self) -> int: ...

    @property
    def classes(self) -> ClassNames: ...

    @property
    def label_files(self) -> Sequence[Path] | None: ...

    @property
    def label_format(self) -> LabelFormat: ...

    @property
    def fingerprint(self) -> str: ...

    def mask(self, index: int) -> np.ndarray: ...


def count_pixels(
    dataset: LabelledImages,
    *,
    workers: int | None = None,
    progress: bool = True,
    cache: str | Path | None = None,
) -> ClassFrequency:
    """Count the pixels and images of every class.

    Label files are decoded and counted by their histograms, so the pass costs what decoding costs; a data set
    without label files is counted through ``dataset.mask``.

    Args:
        dataset: Images with label maps, of one split.
        workers: Processes; None takes all cores that this process may use, 1 counts in this process.
        progress: Show a progress bar on stderr (plain lines where that is no terminal).
        cache: Folder of JSON files of counts, or one ``.json`` file; counts of data with the same fingerprint
            are read from there. None counts again. A data set without fingerprint is never cached; a folder that
            cannot be written is no obstacle.

    Raises:
        DataError: A label file is unreadable or holds a value that is neither a class nor ignored, or the data
            set is empty.
    """
    cached = _cache_file(cache, dataset.fingerprint)
    if cached is not None and (known := _read_cache(cached, dataset)) is not None:
        return known
    job = _Job.of(dataset)
    pixels, images = np.zeros(len(job.class_names) + 1, np.int64), np.zeros(len(job.class_names), np.int64)
    counted = (row for rows in _count(job, workers) for row in rows)
    for row in with_progress(counted, job.size, "counting labels", shown=progress):
        pixels += row
        images += row[:-1] > 0
    frequency = ClassFrequency(
        class_names=job.class_names,
        images=images,
        pixels=pixels[:-1],
        num_images=job.size,
        ignored_pixels=int(pixels[-1]),
        fingerprint=dataset.fingerprint,
    )
    if cached is not None:
        try:
            _write_cache(cached, frequency)
        except OSError as error:
            if progress:
                _say_once(f"counts are not kept for the next time: cannot write to {cached.parent}: {error.strerror}")
    return frequency


def pixels_per_image(dataset: LabelledImages, *, workers: int | None = None) -> np.ndarray:
    """Pixels of every class in every image, int64 (images, C), for samplers by class.

    Args:
        dataset: Images with label maps, of one split.
        workers: See ``count_pixels``.

    Raises:
        DataError: As of ``count_pixels``.
    """
    return np.concatenate(list(_count(_Job.of(dataset), workers)))[:, :-1]


@dataclass
class _Job:
    """Input of a counting process: files where there are files, else the data set itself."""

    class_names: tuple[str, ...]
    ignore_index: int
    size: int
    format: LabelFormat = PLAIN
    files: list[str] | None = None
    dataset: LabelledImages | None = field(default=None, repr=False)

    @classmethod
    def of(cls, dataset: LabelledImages) -> "_Job":
        names, files = tuple(dataset.classes.names), dataset.label_files
        if files is None:
            return cls(names, dataset.ignore_index, len(dataset), dataset=dataset)
        return cls(names, dataset.ignore_index, len(files), dataset.label_format, [str(f) for f in files])

    def count(self, indices: Sequence[int]) -> np.ndarray:
        """Pixels of every class and ignored ones, int64 (images, C + 1), of the images of these indices."""
        rows = np.zeros((len(indices), len(self.class_names) + 1), np.int64)
        for row, index in zip(rows, indices, strict=True):
            if self.files is not None:
                path = self.files[index]
                values = value_histogram(open_label(path, self.format), path)
            else:
                assert self.dataset is not None
                path = f"{index} of {type(self.dataset).__name__}"
                values = _mask_histogram(self.dataset.mask(index), path)
            row[:-1], row[-1] = class_histogram(values, self.class_names, self.ignore_index, self.format.table, path)
        return rows


def _mask_histogram(mask: np.ndarray, name: str) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.dtype.kind not in "uib" or mask.min(initial=0) < 0:
        raise DataError(
            f"label map {name} has dtype {mask.dtype}, smallest value {mask.min(initial=0)}",
            fix="return class ids >= 0 of an integer dtype from mask()",
        )
    return np.bincount(mask.ravel(), minlength=256)


def _count(job: _Job, workers: int | None) -> Iterator[np.ndarray]:
    """``_Job.count`` of all images in order, some images at a time.

    Raises:
        DataError: There is no image.
    """
    if job.size == 0:
        raise DataError("the data set holds no images", fix="check the folder and the split")
    workers = num_cores() if workers is None else max(1, workers)
    serial = workers == 1 or job.size < _MIN_PARALLEL
    chunk = _SERIAL_CHUNK if serial else max(1, min(64, job.size // (8 * workers)))
    chunks = [range(i, min(i + chunk, job.size)) for i in range(0, job.size, chunk)]
    if serial:
        yield from map(job.count, chunks)
        return
    with process_pool(workers, job) as pool:
        with quiet_forks():
            counted = pool.map(_count_chunk, chunks)
        try:
            yield from counted
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_job: _Job | None = None  # of a worker process


def _start_worker(job: _Job | None) -> None:
    global _job
    _job = job
    if "torch" in sys.modules:  # a data set's mask() may use it, and OpenMP does not survive a fork
        sys.modules["torch"].set_num_threads(1)


def _count_chunk(indices: range) -> np.ndarray:
    assert _job is not None
    return _job.count(indices)


def process_pool(workers: int, job: _Job | None = None) -> ProcessPoolExecutor:
    """Processes that know of ``job``; give them their work under ``quiet_forks``."""
    # Forking, as PyTorch's data loader does on Linux, starts in milliseconds and needs no importable __main__.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(job,))


@contextmanager
def quiet_forks() -> Iterator[None]:
    """Silence warnings of forks with threads: the children use no threads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        yield


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cache_file(cache: str | Path | None, fingerprint: str) -> Path | None:
    if cache is None or not fingerprint:
        return None
    try:
        path = Path(cache).expanduser()
    except RuntimeError:
        return None  # no home folder
    return path if path.suffix == ".json" else path / f"frequency-{fingerprint[:16]}.json"


@lru_cache
def _say_once(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _read_cache(path: Path, dataset: LabelledImages) -> ClassFrequency | None:
    """Counts of exactly this data set, None where there are none."""
    try:
        if not path.is_file():
            return None
        known = ClassFrequency.from_json(path)
    except (DataError, OSError):
        return None  # truncated, of another version or unreadable: counted again and overwritten
    same = known.fingerprint == dataset.fingerprint and known.class_names == tuple(dataset.classes.names)
    return known if same else None


def _write_cache(path: Path, frequency: ClassFrequency) -> None:
    """Write a temporary file and rename it: ranks of one job may do so at the same time."""
    replace_file(path, frequency.to_json, f".{os.getpid()}")
