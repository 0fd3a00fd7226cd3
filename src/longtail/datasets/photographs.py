"""Reading photographs: RGB bytes, or any number of bands of any plain type with one scale for the whole data set."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torchvision import tv_tensors
from torchvision.io import ImageReadMode, decode_image

from longtail.datasets.stored_bands import stored_bands
from longtail.errors import ConfigError, DataError
from longtail.frequency.label_image import too_large

_DECODED = frozenset({".jpg", ".jpeg", ".png", ".webp"})  # by torchvision; the others by Pillow
_READERS = 16
_TURNED = (5, 6, 7, 8)
_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH, _COLOUR = 24, 25  # places of the bit depth and the colour type in a PNG
_WITH_ALPHA = (4, 6)
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
            raise ConfigError(
                f"bands is {self.bands}", fix="give the number of bands, or their numbers from 0: [3, 2, 1]"
            )
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

    def read(self, path: str | Path) -> tv_tensors.Image:
        """A photograph, turned upright by its EXIF orientation: uint8, or float32 in 0 … 1 where there is a range.

        Raises:
            DataError: The file is missing or corrupt, or does not fit the format.
        """
        path = Path(path)
        if self.bands is None and self.value_range is None and self.pages == "refuse":
            return tv_tensors.Image(_read_rgb(path))
        values = self._chosen(stored_bands(path, self.pages), path)
        if self.value_range is None:
            if values.dtype != np.uint8:
                raise DataError(
                    f"image {path} holds {values.dtype} values",
                    fix="give their range for the whole data set, data.value_range [lowest, highest]; `longtail count "
                    "--images` finds it",
                )
            return tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(values)))
        low, high = self.value_range
        scaled = torch.from_numpy(values.astype(np.float32))
        if not torch.isfinite(scaled).all():
            raise DataError(f"image {path} has pixels that are no number", fix="fill them with a value")
        return tv_tensors.Image(scaled.sub_(low).div_(high - low).clamp_(0, 1))

    def header_size(self, path: Path) -> tuple[int, int] | None:
        """Height and width of a photograph by its header; None where only reading it tells whether it can be read."""
        if self != RGB:
            return upright_size(path)
        try:
            with Image.open(path) as image:
                _refuse_other_than_rgb(image, path)
                return _size_upright(image)
        except Exception:  # reading it says why
            return None

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


def as_rgb(image: Tensor) -> Tensor:
    """uint8 (3, h, w) to look at: the first three bands, or the first of fewer."""
    plain = image.as_subclass(Tensor)
    shown = plain[:3] if len(plain) >= 3 else plain[:1].expand(3, -1, -1)
    return shown if shown.dtype == torch.uint8 else (shown * 255).round().to(torch.uint8)


def upright_size(path: Path) -> tuple[int, int] | None:
    """Height and width by the file's header, after EXIF rotation; None where Pillow cannot read them."""
    try:
        with Image.open(path) as image:
            return _size_upright(image)
    except Exception:  # headers are broken in many ways; reading the file finds the reason
        return None


def _size_upright(image: Image.Image) -> tuple[int, int]:
    # only JPEGs have it in the header: for others Pillow may decode the whole image
    turned = image.format == "JPEG" and image.getexif().get(ExifTags.Base.Orientation) in _TURNED
    return (image.width, image.height) if turned else (image.height, image.width)


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
    of_bands = file.suffix.lower() in (".npy", *_TIFF)
    height, width = (stored_bands(file, "bands") if of_bands else RGB.read(file)).shape[-2:]
    return int(height), int(width)


def _read_rgb(path: Path) -> Tensor:
    """uint8 (3, h, w)."""
    if path.suffix.lower() in _DECODED:
        kind = _kind(path)
        try:
            if kind == "plain":
                return decode_image(str(path), ImageReadMode.RGB, apply_exif_orientation=True)
            if kind == "alpha":
                return _without_alpha(decode_image(str(path), apply_exif_orientation=True), path)
        except RuntimeError:
            pass  # a format in disguise or a rare variant: Pillow reads more formats, and reports the problem
    if path.suffix.lower() == ".npy":
        raise _not_rgb(path, "an array")
    return _read_with_pillow(path)


def _kind(path: Path) -> Literal["plain", "alpha", "deep"]:
    """Whether a file may be decoded as RGB bytes, by its first bytes: PNGs and WebPs may have more."""
    try:
        with path.open("rb") as file:
            head = file.read(_COLOUR + 1)
    except OSError:
        return "deep"  # Pillow reports the problem
    if head[:4] == b"RIFF":
        return "alpha"
    if len(head) <= _COLOUR or head[:8] != _PNG:
        return "plain"
    return "deep" if head[_DEPTH] == 16 else "alpha" if head[_COLOUR] in _WITH_ALPHA else "plain"


def _without_alpha(image: Tensor, path: Path) -> Tensor:
    """Colours or greys (C, h, w) as RGB, if the transparency holds nothing."""
    if len(image) in (2, 4):
        if (image[-1] != 255).any():
            raise _not_rgb(path, f"{len(image)} bands")
        image = image[:-1]
    return image.expand(3, -1, -1).contiguous()


def _read_with_pillow(path: Path) -> Tensor:
    try:
        with Image.open(path) as image:
            _refuse_other_than_rgb(image, path)
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("RGBA", "LA"):
                return _without_alpha(torch.from_numpy(np.array(upright)).permute(2, 0, 1), path)
            pixels = np.array(upright.convert("RGB"))
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(
            f"image {path} does not exist", fix="restore the file, or leave it and its label out"
        ) from error
    except Image.DecompressionBombError as error:
        raise too_large("image", path) from error
    except (OSError, SyntaxError, ValueError) as error:
        fix = "restore the file from its source"
        if path.suffix.lower() in _TIFF:
            fix += "; bands and types that Pillow does not know need data.bands and data.value_range"
        raise DataError(f"cannot read image {path}: {error}", fix=fix) from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


_TIFF = (".tif", ".tiff")
_BITS, _SAMPLES, _KIND = 258, 277, 339  # tags of TIFF


def _refuse_other_than_rgb(image: Image.Image, path: Path) -> None:
    tags = getattr(image, "tag_v2", {})
    bits, samples = max(tags.get(_BITS, (8,))), tags.get(_SAMPLES, 1)
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise _not_rgb(path, f"{pages} pages")
    if image.mode not in _EIGHT_BITS or bits > 8:
        raise _not_rgb(path, f"{bits} bits a value" if bits > 8 else f"values of kind {image.mode}")
    if set(tags.get(_KIND, (1,))) - {1}:
        raise _not_rgb(path, "signed or floating values")
    if samples > 3 and image.mode not in ("RGBA", "CMYK"):
        raise _not_rgb(path, f"{samples} bands")


def _not_rgb(path: Path, what: str) -> DataError:
    return DataError(
        f"image {path} has {what}, and photographs are read as RGB bytes",
        fix="set how these are read: data.bands (how many, or which) and data.value_range [lowest, highest] for all images; "
        "`longtail count --images` finds the range",
    )
