"""Photographs of RGB bytes: decoded by torchvision, or by Pillow where it does not know the format."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from longtail.datasets.photographs import TIFF, not_rgb, refuse_other_than_rgb
from longtail.frequency.label_image import decoding

_DECODED = frozenset({".jpg", ".jpeg", ".png", ".webp"})  # by torchvision; the others by Pillow
_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH, _COLOUR = 24, 25  # places of the bit depth and the colour type in a PNG
_WITH_ALPHA = (4, 6)


def as_rgb(image: Tensor) -> Tensor:
    """uint8 (3, h, w) to look at: the first three bands, or the first of fewer."""
    plain = image.as_subclass(Tensor)
    shown = plain[:3] if len(plain) >= 3 else plain[:1].expand(3, -1, -1)
    return shown if shown.dtype == torch.uint8 else (shown * 255).round().to(torch.uint8)


def read_rgb(path: Path) -> UInt8[Tensor, "3 h w"]:
    """A photograph, upright.

    Raises:
        DataError: The file is missing or corrupt, or is no photograph of RGB bytes.
    """
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
        raise not_rgb(path, "an array")
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
            raise not_rgb(path, f"{len(image)} bands")
        image = image[:-1]
    return image.expand(3, -1, -1).contiguous()


def _read_with_pillow(path: Path) -> Tensor:
    fix = "restore the file from its source"
    if path.suffix.lower() in TIFF:
        fix += "; bands and types that Pillow does not know need data.bands and data.value_range"
    with decoding("image", path, fix), Image.open(path) as image:
        refuse_other_than_rgb(image, path)
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("RGBA", "LA"):
            return _without_alpha(torch.from_numpy(np.array(upright)).permute(2, 0, 1), path)
        pixels = np.array(upright.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
