"""Range, mean and standard deviation of every band of a data set's photographs, in one pass over the files."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longtail.datasets.photographs import PhotoFormat
from longtail.datasets.stored_bands import stored_bands
from longtail.errors import DataError

_AHEAD = 4  # files that are read while others are counted, for each reader


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
    total: _Sums | None = None
    with ThreadPoolExecutor(readers) as pool:
        for start in range(0, len(files), readers * _AHEAD):
            chunk = files[start : start + readers * _AHEAD]
            for path, found in zip(chunk, pool.map(lambda path: _Sums.of(take(path), path), chunk), strict=True):
                total = found if total is None else total.with_next(found, path)
    assert total is not None
    mean = total.sums / total.pixels
    std = np.sqrt(np.maximum(total.squares / total.pixels - mean**2, 0))
    return BandStatistics(total.kind, total.low, total.high, mean, std, len(files))


@dataclass(frozen=True)
class _Sums:
    kind: str
    low: np.ndarray
    high: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    pixels: int

    @classmethod
    def of(cls, values: np.ndarray, path: Path) -> "_Sums":
        """Sums of one photograph (bands, h, w)."""
        flat = values.reshape(len(values), -1).astype(np.float64)
        if not np.isfinite(flat).all():
            raise DataError(f"image {path} has pixels that are no number", fix="fill them with a value")
        squares = np.einsum("bp,bp->b", flat, flat)
        return cls(values.dtype.name, flat.min(axis=1), flat.max(axis=1), flat.sum(axis=1), squares, flat.shape[1])

    def with_next(self, other: "_Sums", path: Path) -> "_Sums":
        """Sums of these photographs and one more."""
        if (len(other.low), other.kind) != (len(self.low), self.kind):
            raise DataError(
                f"image {path} has {len(other.low)} bands of {other.kind}, those before {len(self.low)} of {self.kind}",
                fix="store all photographs alike, or take bands that all have with data.bands",
            )
        return _Sums(
            self.kind,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.sums + other.sums,
            self.squares + other.squares,
            self.pixels + other.pixels,
        )
