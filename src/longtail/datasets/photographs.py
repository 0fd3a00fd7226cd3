"""Reading photographs: RGB bytes, or any number of bands of any plain type with one scale for the whole data set."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import ExifTags, Image

from longtail.datasets.sample_tensors import image_tensor
from longtail.datasets.stored_bands import stored_bands
from longtail.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torchvision import tv_tensors

TIFF = (".tif", ".tiff")
_BITS, _SAMPLES, _KIND = 258, 277, 339  # tags of TIFF
_READERS = 16
_TURNED = (5, 6, 7, 8)
_EIGHT_BITS = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")

Pages = Literal["refuse", "bands"]


@dataclass(frozen=True)
class PhotoFormat:
    """How the photographs of a data set are read.

    Without bands and range they are RGB bytes: grey is repeated, and whatever is neither is refused.

    Args:
        bands: Number of bands of every file, or the numbers, from 0, of those to take: ``[3, 2, 1]``.
        value_range: Values that become 0 and 1, for all images and bands; values beyond are cut. None takes bytes as
            they are and refuses other types.
        pages: Whether files of several pages are refused, or their pages are bands.

    Raises:
        ConfigError: No bands, or an empty range.
    """

    bands: int | tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    pages: Pages = "refuse"

    def __post_init__(self) -> None:
        if self.bands is not None and (
            self.bands < 1 if isinstance(self.bands, int) else not self.bands or min(self.bands) < 0
        ):
            raise ConfigError(f"bands is {self.bands}", fix="give how many, or their numbers from 0: [3, 2, 1]")
        if self.value_range is not None:
            low, high = self.value_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigError(f"value_range is {self.value_range}", fix="give the lowest value, then the highest")
        if self.pages not in ("refuse", "bands"):
            raise ConfigError(f"pages is {self.pages!r}", fix="choose 'refuse' or 'bands'")

    @property
    def num_bands(self) -> int:
        """Number of channels of a photograph."""
        if self.bands is None:
            return 3
        return self.bands if isinstance(self.bands, int) else len(self.bands)

    def options(self) -> dict[str, Any]:
        """The format as a saved model records it; empty for RGB bytes."""
        told = {
            "bands": list(self.bands) if isinstance(self.bands, tuple) else self.bands,
            "value_range": None if self.value_range is None else list(self.value_range),
            "pages": None if self.pages == "refuse" else self.pages,
        }
        return {name: value for name, value in told.items() if value is not None}

    def read(self, path: str | Path) -> "tv_tensors.Image":
        """A photograph, turned upright by its EXIF orientation: uint8, or float32 in 0 … 1 where there is a range.

        Raises:
            DataError: The file is missing or corrupt, or does not fit the format.
        """
        path = Path(path)
        if self.bands is None and self.value_range is None and self.pages == "refuse":
            from longtail.datasets.rgb_photographs import read_rgb

            return image_tensor(read_rgb(path))
        values = self._chosen(stored_bands(path, self.pages), path)
        if self.value_range is None:
            if values.dtype != np.uint8:
                raise DataError(
                    f"image {path} holds {values.dtype} values",
                    fix="give their range for the whole data set, data.value_range [lowest, highest]; `longtail count "
                    "--images` finds it",
                )
            return image_tensor(np.ascontiguousarray(values))
        low, high = self.value_range
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise DataError(f"image {path} has pixels that are no number", fix="fill them with a value")
        return image_tensor(((values - np.float32(low)) / np.float32(high - low)).clip(0, 1))

    def header_size(self, path: Path) -> tuple[int, int] | None:
        """Height and width of a photograph by its header; None where only reading it tells whether it can be read."""
        return upright_size(path, only_rgb=self == RGB)

    def stored(self, path: str | Path) -> np.ndarray:
        """The bands (C, h, w) of a file that this format takes, with the values that are stored.

        Raises:
            DataError: As of ``read``.
        """
        return self._chosen(stored_bands(Path(path), self.pages), Path(path))

    def _chosen(self, values: np.ndarray, path: Path) -> np.ndarray:
        """The bands that are asked for, of all (C, h, w)."""
        stored = len(values)
        if self.bands is None:
            if stored == 1:
                return values.repeat(3, axis=0)
            wanted, fits = tuple(range(3)), stored == 3
        elif isinstance(self.bands, int):
            wanted, fits = tuple(range(stored)), stored == self.bands
        else:
            wanted, fits = self.bands, max(self.bands) < stored
        if not fits:
            raise DataError(
                f"image {path} has {stored} bands, {'RGB' if self.bands is None else self.bands} is asked for",
                fix=f"give data.bands {stored}, or the numbers of the bands to take, from 0: [0, 1, 2]",
            )
        return values if wanted == tuple(range(stored)) else values[list(wanted)]


#: RGB bytes.
RGB = PhotoFormat()


def upright_size(path: Path, *, only_rgb: bool = False) -> tuple[int, int] | None:
    """Height and width by the file's header, after EXIF rotation; None where Pillow cannot read them.

    Args:
        path: The file.
        only_rgb: None for a file that is not of RGB bytes as well, or that may be transparent.
    """
    try:
        with Image.open(path) as image:
            if only_rgb:
                refuse_other_than_rgb(image, path)
                if image.mode in ("RGBA", "LA"):
                    return None
            # only JPEGs have it in the header: for others Pillow may decode the whole image
            turned = image.format == "JPEG" and image.getexif().get(ExifTags.Base.Orientation) in _TURNED
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # headers are broken in many ways; reading the file finds the reason
        return None


def is_turned(path: Path) -> bool:
    """Whether the EXIF orientation of a photograph exchanges height and width."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(ExifTags.Base.Orientation) in _TURNED
    except Exception:
        return False


def image_sizes(files: Sequence[Path]) -> list[tuple[int, int]]:
    """Height and width of images, after EXIF rotation; from their headers where possible.

    Raises:
        DataError: An image is missing or corrupt.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        sizes = list(readers.map(upright_size, files))
    return [size or _decoded_size(file) for size, file in zip(sizes, files, strict=True)]


def _decoded_size(file: Path) -> tuple[int, int]:
    of_bands = file.suffix.lower() in (".npy", *TIFF)
    height, width = (stored_bands(file, "bands") if of_bands else RGB.read(file)).shape[-2:]
    return int(height), int(width)


def refuse_other_than_rgb(image: Image.Image, path: Path) -> None:
    """Refuse an image of other bands, types or pages than a photograph.

    Raises:
        DataError: It is one.
    """
    tags = getattr(image, "tag_v2", {})
    bits, samples = max(tags.get(_BITS, (8,))), tags.get(_SAMPLES, 1)
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise not_rgb(path, f"{pages} pages")
    if image.mode not in _EIGHT_BITS or bits > 8:
        raise not_rgb(path, f"{bits} bits a value" if bits > 8 else f"values of kind {image.mode}")
    if set(tags.get(_KIND, (1,))) - {1}:
        raise not_rgb(path, "signed or floating values")
    if samples > 3 and image.mode not in ("RGBA", "CMYK"):
        raise not_rgb(path, f"{samples} bands")


def not_rgb(path: Path, what: str) -> DataError:
    """The refusal of such an image."""
    return DataError(
        f"image {path} has {what}, and photographs are read as RGB bytes",
        fix="set how these are read: data.bands (how many, or which) and data.value_range [lowest, highest] for all images; "
        "`longtail count --images` finds the range",
    )
