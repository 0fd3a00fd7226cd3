"""The bands that an image file stores, with their own type: NPY, TIFF, PNG and whatever Pillow reads."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from longtail.errors import DataError, MissingDependencyError
from longtail.frequency.label_image import decoding

_KINDS = ("uint8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
_MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16", "I", "F")


def stored_bands(path: Path, pages: str = "refuse") -> np.ndarray:
    """Bands (C, h, w) of a file.

    Args:
        path: The file. Of arrays (.npy) of three axes, the shorter of the first and the last one is the bands'.
        pages: "bands" takes the pages of a TIFF file for bands; else files of several pages are refused.

    Raises:
        DataError: The file is missing or corrupt, or of a kind that is not understood.
        MissingDependencyError: A TIFF file without tifffile.
    """
    with decoding("image", path):
        if path.suffix.lower() == ".npy":
            values = _from_array(np.load(path, allow_pickle=False), path)
        elif path.suffix.lower() in (".tif", ".tiff"):
            values = _from_tiff(path, pages)
        else:
            values = _from_picture(path)
    if values.dtype.name not in _KINDS or 0 in values.shape:
        raise DataError(
            f"image {path} holds {values.dtype} values of shape {values.shape}",
            fix="store uint8, uint16 or float32 values",
        )
    return values


def _from_array(values: np.ndarray, path: Path) -> np.ndarray:
    if values.ndim == 2:
        return values[None]
    if values.ndim != 3:
        raise DataError(f"array {path} is of shape {values.shape}", fix="store (h, w), (h, w, bands) or (bands, h, w)")
    return values if values.shape[0] < values.shape[-1] else np.moveaxis(values, -1, 0)


def _from_tiff(path: Path, pages: str) -> np.ndarray:
    try:
        from tifffile import PHOTOMETRIC, TiffFile
    except ImportError as error:
        raise MissingDependencyError(
            f"reading the bands of {path} needs tifffile", fix="pip install 'longtail[bands]'"
        ) from error
    with TiffFile(path) as file:
        own: list[Any] = [page for page in file.pages if not (page.is_reduced or page.is_mask)]  # type: ignore[union-attr]
        if len(own) > 1 and pages != "bands":
            raise DataError(
                f"image {path} has {len(own)} pages",
                fix="if they are bands, set data.pages bands (count: --pages bands)",
            )
        for page in own:
            if page.photometric in (PHOTOMETRIC.PALETTE, PHOTOMETRIC.MINISWHITE):
                raise DataError(f"image {path} is of kind {page.photometric.name}, no brightness", fix="convert it")
            if "Orientation" in page.tags and page.tags["Orientation"].value != 1:
                raise DataError(f"image {path} is stored turned (its orientation tag)", fix="store it upright")
        bands = [_page_bands(page, path) for page in own]
    if len({band.shape[1:] for band in bands}) != 1:
        raise DataError(f"the pages of image {path} differ in size", fix="store one size")
    return bands[0] if len(bands) == 1 else np.concatenate(bands)


def _page_bands(page: Any, path: Path) -> np.ndarray:
    values, axes = page.asarray(), page.axes
    if axes == "YX":
        return values[None]
    if axes == "YXS":
        return np.moveaxis(values, -1, 0)
    if axes != "SYX":
        raise DataError(f"image {path} has the axes {axes}", fix="store rows, columns and bands")
    return values


def _from_picture(path: Path) -> np.ndarray:
    if path.suffix.lower() == ".png":
        with path.open("rb") as file:
            is_palette = file.read(26)[25:] == b"\x03"
        if not is_palette:
            from torchvision.io import decode_image  # takes seconds

            return decode_image(str(path), apply_exif_orientation=True).numpy()
    with Image.open(path) as image:
        if image.mode not in _MODES or getattr(image, "n_frames", 1) > 1:
            raise DataError(f"image {path} is of kind {image.mode}, whose values are no bands", fix="convert it")
        values = np.asarray(ImageOps.exif_transpose(image))
    return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
