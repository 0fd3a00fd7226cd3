"""Reading photographs, and pairing them with their label images."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torchvision import tv_tensors
from torchvision.io import ImageReadMode, decode_image

from longtail.errors import DataError
from longtail.folders import files_in

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
_DECODED = frozenset({".jpg", ".jpeg", ".png", ".webp"})  # by torchvision; the others by PIL


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


def list_images(folder: Path, what: str, suffix: str = "") -> dict[str, Path]:
    """Image files under a folder, by their path within it without ``suffix`` and extension, in order.

    Args:
        folder: Searched by ``files_in``.
        what: Names the folder in errors: "images", "labels".
        suffix: End of the file stems that count, e.g. ``_leftImg8bit``; others are left out.

    Raises:
        DataError: The folder is missing, or two files have the same name but for the extension.
    """
    if not folder.is_dir():
        raise DataError(f"folder of {what} {folder} does not exist", fix="check the path, the split and the layout")
    found: dict[str, Path] = {}
    for path in files_in(folder, IMAGE_SUFFIXES):
        if not path.stem.endswith(suffix):
            continue
        name = path.relative_to(folder).with_name(path.stem.removesuffix(suffix)).as_posix()
        if name in found:
            raise DataError(f"two {what} of one name: {found[name]} and {path}", fix="keep one of them")
        found[name] = path
    return found


def pair_files(
    images: Path, labels: Path, image_suffix: str = "", label_suffix: str = ""
) -> list[tuple[str, Path, Path]]:
    """Images and labels of equal name as (name, image, label), in order of their names.

    Args:
        images: Folder of photographs.
        labels: Folder of label images.
        image_suffix: End of the photographs' stems that is no part of the name.
        label_suffix: The same of the label images.

    Raises:
        DataError: A folder is missing or empty, or an image has no label, or a label no image.
    """
    photos = list_images(images, "images", image_suffix)
    masks = list_images(labels, "labels", label_suffix)
    if not photos or not masks:
        empty, suffix = (labels, label_suffix) if photos else (images, image_suffix)
        raise DataError(
            f"no images *{suffix}{{{','.join(sorted(IMAGE_SUFFIXES))}}} in {empty}", fix="check the path and the split"
        )
    _refuse_unpaired(photos.keys() - masks.keys(), "image", "label", labels)
    _refuse_unpaired(masks.keys() - photos.keys(), "label", "image", images)
    return [(name, photos[name], masks[name]) for name in photos]


def _refuse_unpaired(names: Iterable[str], what: str, lacks: str, folder: Path) -> None:
    names = sorted(names)
    if names:
        some = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        raise DataError(
            f"{len(names)} {what}{'s' if len(names) > 1 else ''} without {lacks} in {folder}: {some}",
            fix=f"add the {lacks}s, or take the {what}s away",
        )


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
