"""Reading photographs."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torchvision import tv_tensors
from torchvision.io import ImageReadMode, decode_image

from longtail.errors import DataError

_DECODED = frozenset({".jpg", ".jpeg", ".png", ".webp"})  # by torchvision; the others by PIL

_READERS = 8  # threads that read headers


def read_image(path: str | Path) -> tv_tensors.Image:
    """Decode a photograph as uint8 (3, h, w) RGB, turned upright by its EXIF orientation.

    Raises:
        DataError: The file is missing or corrupt.
    """
    path = Path(path)
    if path.suffix.lower() in _DECODED:
        try:
            image = decode_image(str(path), ImageReadMode.RGB, apply_exif_orientation=True)
            return tv_tensors.Image(_to_uint8(image))
        except RuntimeError:
            pass  # a format in disguise or a rare variant: PIL reads more, and says what is wrong
    return tv_tensors.Image(_read_with_pil(path))


def _to_uint8(image: Tensor) -> Tensor:
    return (image.to(torch.int32) >> 8).to(torch.uint8) if image.dtype == torch.uint16 else image


def _read_with_pil(path: Path) -> Tensor:
    try:
        with Image.open(path) as image:
            if image.mode in ("I", "I;16", "I;16B"):  # PIL would clip 16 bits at 255
                wide = np.asarray(image)
                narrow = (wide >> (8 if wide.max(initial=0) > 255 else 0)).astype(np.uint8)
                pixels = np.repeat(narrow[..., None], 3, axis=2)
            else:
                pixels = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError as error:
        raise DataError(
            f"image {path} does not exist", fix="restore the file, or leave it and its label out"
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read image {path}: {error}", fix="restore the file from its source") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def upright_size(path: Path) -> tuple[int, int] | None:
    """Height and width by the file's header, as ``read_image`` turns the photograph; None where PIL cannot tell."""
    try:
        with Image.open(path) as image:
            # only JPEGs have it in the header: for others PIL may decode the whole image
            orientation = image.getexif().get(ExifTags.Base.Orientation) if image.format == "JPEG" else None
            size = image.height, image.width
    except Exception:  # headers are broken in many ways; reading the file tells which
        return None
    return size[::-1] if orientation in (5, 6, 7, 8) else size


def fingerprint_of(files: Sequence[Path], *facts: object, times: bool = True) -> str:
    """Digest of names, sizes and modification times of files and of further facts, without reading the files.

    Args:
        files: The files.
        facts: What else counts.
        times: Whether modification times count; a copy of the files may have others.
    """
    digest = hashlib.sha256(repr(facts).encode())
    for path in files:
        stat = path.stat()
        changed = f" {stat.st_mtime_ns}" if times else ""
        digest.update(f"{path.parent.name}/{path.name} {stat.st_size}{changed}\n".encode())
    return digest.hexdigest()


def image_sizes(files: Sequence[Path]) -> list[tuple[int, int]]:
    """Height and width of images, as ``read_image`` turns them; by their headers where these tell.

    Raises:
        DataError: An image is missing or corrupt.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        sizes = list(readers.map(upright_size, files))
    return [size or _decoded_size(file) for size, file in zip(sizes, files, strict=True)]


def _decoded_size(file: Path) -> tuple[int, int]:
    height, width = read_image(file).shape[-2:]
    return int(height), int(width)
