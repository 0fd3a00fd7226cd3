"""Draw detected and true objects on photographs; keep them as JSON values."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from longtail.boxes import resize_boxes
from longtail.detection.method import Detections

_OPACITY = 0.45
_FADED = (186, 191, 199)


def best_detections(detections: Detections, count: int, threshold: float = 0.0) -> Detections:
    """The best ``count`` detections that score at least ``threshold``, on the CPU."""
    keep = min(count, int((detections.scores >= threshold).sum()))
    return replace(
        detections,
        boxes=detections.boxes[:keep].cpu(),
        scores=detections.scores[:keep].cpu(),
        labels=detections.labels[:keep].cpu(),
        masks=None if detections.masks is None else detections.masks[:keep],
    )


def above_thresholds(detections: Detections, thresholds: Tensor) -> Detections:
    """The detections that score at least the threshold of their class, on the CPU.

    Args:
        detections: Of one image.
        thresholds: float64 (C,).
    """
    labels = detections.labels.cpu()
    kept = torch.nonzero(detections.scores.cpu() >= thresholds[labels]).flatten()
    return replace(
        detections,
        boxes=detections.boxes.cpu()[kept],
        scores=detections.scores.cpu()[kept],
        labels=labels[kept],
        masks=None if detections.masks is None else [detections.masks[i] for i in kept.tolist()],
    )


def to_record(detections: Detections) -> dict[str, Any]:
    """Detections as JSON values, boxes to a tenth of a pixel; true objects (scores NaN) have no scores."""
    record: dict[str, Any] = {
        "size": list(detections.size),
        "boxes": [[round(side, 1) for side in box] for box in detections.boxes.tolist()],
        "labels": detections.labels.tolist(),
    }
    if not detections.scores.isnan().any():
        record["scores"] = [round(score, 4) for score in detections.scores.tolist()]
    if detections.masks is not None:
        record["masks"] = [mask["counts"] for mask in detections.masks]
    return record


def from_record(record: Mapping[str, Any]) -> Detections:
    """Inverse of ``to_record``."""
    height, width = record["size"]
    count = len(record["labels"])
    masks = [{"size": [height, width], "counts": counts} for counts in record["masks"]] if "masks" in record else None
    return Detections(
        torch.tensor(record["boxes"], dtype=torch.float32).reshape(count, 4),
        torch.tensor(record.get("scores", [torch.nan] * count), dtype=torch.float32),
        torch.tensor(record["labels"], dtype=torch.int64),
        (height, width),
        masks,
    )


def draw(
    image: Tensor | Image.Image,
    detections: Detections,
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
    faded: Sequence[bool] | None = None,
) -> Image.Image:
    """Boxes, masks and labels on a photograph; the best detection on top.

    Args:
        image: RGB; a tensor is uint8 (3, h, w).
        detections: Scaled to the photograph; objects without a score (NaN) are labelled without one.
        names: Names of the classes.
        palette: Colours of the classes.
        faded: Which detections to draw as thin grey boxes below all others.
    """
    pixels = np.array(image) if isinstance(image, Image.Image) else _array(image)
    size = (pixels.shape[0], pixels.shape[1])
    labels = detections.labels.tolist()
    order = sorted(range(len(detections)), key=lambda place: (not (faded and faded[place]), -place))
    for place in order:
        if detections.masks is not None and not (faded and faded[place]):
            inside = _mask(detections.masks[place], size)
            pixels[inside] = pixels[inside] * (1 - _OPACITY) + np.asarray(palette[labels[place]]) * _OPACITY
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    side = max(picture.size)
    thick, font = max(1, side // 320), ImageFont.load_default(max(9, side // 38))
    for place, box in zip(order, resize_boxes(detections.boxes, detections.size, size)[order].tolist(), strict=True):
        score, label, pale = float(detections.scores[place]), labels[place], bool(faded and faded[place])
        colour = _FADED if pale else tuple(int(v) for v in palette[label])
        left, top, right, bottom = box
        width = max(1, thick // 2) if pale else thick
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=width)
        words = names[label] if np.isnan(score) else f"{names[label]} {score:.2f}"
        _label(pen, (left, top), words, colour, font, picture.size[0])
    return picture


def _label(
    pen: ImageDraw.ImageDraw, corner: tuple[float, float], words: str, colour: tuple, font: object, width: int
) -> None:
    """Words above a corner, or inside it at the upper border; within the picture, dark on bright colours."""
    _, _, length, height = pen.textbbox((0, 0), words, font=font)  # type: ignore[arg-type]
    left, top = max(0.0, min(corner[0], width - length - 4)), corner[1] - height - 2
    top = corner[1] if top < 0 else top
    pen.rectangle((left, top, left + length + 3, top + height + 2), fill=colour)
    bright = np.dot(colour, (0.299, 0.587, 0.114)) > 140
    pen.text((left + 2, top), words, fill=(0, 0, 0) if bright else (255, 255, 255), font=font)  # type: ignore[arg-type]


def _array(image: Tensor) -> np.ndarray:
    return image.as_subclass(Tensor).permute(1, 2, 0).cpu().numpy().copy()


def _mask(mask: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """The mask at the size of the photograph."""
    from hotcoco import mask as masks

    pixels = masks.decode(mask).astype(bool)
    if pixels.shape == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.NEAREST))
