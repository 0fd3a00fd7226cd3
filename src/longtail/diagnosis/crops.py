"""Small pictures of single objects and regions, with some of what is around them."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

_SIDE = 168  # pixels of the longer side of a crop
_AROUND = 0.45  # share of an object's longer side that is shown around it
_LEAST = 24  # pixels of a photograph that a crop shows at least
_QUALITY = 78
FOUND, TRUE = (224, 103, 42), (60, 200, 130)  # colours of what a model found, and of what is there


def crop_box(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Part of a photograph to show for a box: left, top, right, bottom, within the photograph.

    Args:
        box: xyxy in pixels.
        size: (width, height) of the photograph.
    """
    x0, y0, x1, y1 = box
    width, height = size
    margin = max(_AROUND * max(x1 - x0, y1 - y0), (_LEAST - max(x1 - x0, y1 - y0)) / 2, 2.0)
    left, right = max(0, int(x0 - margin)), min(width, int(np.ceil(x1 + margin)))
    top, bottom = max(0, int(y0 - margin)), min(height, int(np.ceil(y1 + margin)))
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def draw_boxes(
    photo: Image.Image,
    shown: Sequence[float],
    boxes: Sequence[tuple[Sequence[float], tuple[int, int, int]]],
) -> Image.Image:
    """A crop around a box, with boxes drawn.

    Args:
        photo: RGB.
        shown: Box to show, xyxy.
        boxes: (box, colour) of what to draw.
    """
    part = crop_box(shown, photo.size)
    picture = photo.crop(part)
    scale = _SIDE / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    pen = ImageDraw.Draw(picture)
    for (x0, y0, x1, y1), colour in boxes:
        corners = [((x - part[0]) * scale, (y - part[1]) * scale) for x, y in ((x0, y0), (max(x0, x1), max(y0, y1)))]
        pen.rectangle([*corners[0], *corners[1]], outline=colour, width=2)
    return picture


def draw_region(
    photo: Image.Image, box: tuple[int, int, int, int], inside: np.ndarray, colour: tuple[int, int, int]
) -> Image.Image:
    """A crop around a region of pixels, with the region tinted.

    Args:
        photo: RGB.
        box: Rectangle that holds the region: left, top, right, bottom.
        inside: bool, the rectangle at any resolution.
        colour: Of the tint.
    """
    left, top, right, bottom = crop_box(box, photo.size)
    picture = photo.crop((left, top, right, bottom))
    tint = Image.fromarray((inside * 115).astype(np.uint8)).resize((box[2] - box[0], box[3] - box[1]))
    picture.paste(Image.new("RGB", tint.size, colour), (box[0] - left, box[1] - top), tint)
    scale = _SIDE / max(picture.size)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def as_jpeg(picture: Image.Image) -> str:
    """A picture as JPEG, in base64."""
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg", quality=_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()
