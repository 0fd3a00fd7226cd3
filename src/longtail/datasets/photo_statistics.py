"""Range, mean and standard deviation of every band of a data set's photographs, in one pass over the files."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from longtail.datasets.photographs import PhotoFormat
from longtail.datasets.stored_bands import stored_bands
from longtail.errors import DataError


@dataclass(frozen=True)
class BandStatistics:
    """Statistics of the photographs of a data set.

    Args:
        kind: Type of the stored values, such as ``uint16``.
        low: Lowest value of every band, float64 (bands,).
        high: Highest value of every band.
        mean: Mean of every band over all pixels of all images.
        std: Standard deviation likewise.
        images: Number of images.
    """

    kind: str
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    images: int

    @property
    def value_range(self) -> tuple[float, float]:
        """One range for all bands: 0 … 255 of bytes, the lowest and the highest value of other types."""
        return (0.0, 255.0) if self.kind == "uint8" else (float(self.low.min()), float(self.high.max()))

    def scaled(self, value_range: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation once a range has become 0 … 1, as transforms take them."""
        low, high = value_range
        return (self.mean - low) / (high - low), self.std / (high - low)


def photo_statistics(files: Sequence[Path], photos: PhotoFormat, readers: int = 4) -> BandStatistics:
    """Look at every photograph once.

    Args:
        files: Photographs of the training split.
        photos: Which bands to take; its range does not matter.
        readers: Threads that read files.

    Raises:
        DataError: There are no photographs, one cannot be read, or they differ in bands or type.
    """
    if not files:
        raise DataError("there are no photographs to look at", fix="check the folder and the split")
    take = photos.stored if photos.bands is not None else lambda path: stored_bands(path, photos.pages)
    with ThreadPoolExecutor(readers) as pool:
        found = list(pool.map(lambda path: _sums(take(path), path), files))
    first = found[0]
    for path, sums in zip(files, found, strict=True):
        if (sums.kind, len(sums.low)) != (first.kind, len(first.low)):
            raise DataError(
                f"image {path} has {len(sums.low)} bands of {sums.kind}, those before {len(first.low)} of {first.kind}",
                fix="store all photographs alike, or take bands that all have with data.bands",
            )
    low, high, values, squares = (np.stack(column) for column in list(zip(*found, strict=True))[1:5])
    pixels = sum(sums.pixels for sums in found)
    mean = values.sum(axis=0) / pixels
    std = np.sqrt(np.maximum(squares.sum(axis=0) / pixels - mean**2, 0))
    return BandStatistics(first.kind, low.min(axis=0), high.max(axis=0), mean, std, len(files))


class _Sums(NamedTuple):
    """Sums of one photograph, for every band."""

    kind: str
    low: np.ndarray
    high: np.ndarray
    values: np.ndarray
    squares: np.ndarray
    pixels: int


def _sums(values: np.ndarray, path: Path) -> _Sums:
    flat = values.reshape(len(values), -1).astype(np.float64)
    if not np.isfinite(flat).all():
        raise DataError(f"image {path} has pixels that are no number", fix="fill them with a value")
    squares = np.einsum("bp,bp->b", flat, flat)
    return _Sums(values.dtype.name, flat.min(axis=1), flat.max(axis=1), flat.sum(axis=1), squares, flat.shape[1])
