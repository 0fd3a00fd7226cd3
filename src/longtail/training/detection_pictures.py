"""Detected and true objects drawn on photographs, for predictions and for the report."""

import copy
import heapq
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from longtail.datasets.base import DetectionDataset, DetectionSample
from longtail.detection.method import Detections
from longtail.detection.run_lengths import decode_mask
from longtail.distributed import all_gather_objects, is_main_process
from longtail.frequency import CategoryGroups
from longtail.training.pictures import file_name

_OPACITY = 0.45


class DetectionPictureBook:
    """Keeps the detections of the images that show most of the rarest classes, and draws them at the end.

    As many detections as there are objects are drawn, the best first: what is shown does not depend on how high a
    method's scores are.

    Args:
        folder: Where to write.
        size: How many images.
        groups: The first group that has classes is the rarest.
    """

    def __init__(self, folder: Path, size: int, groups: CategoryGroups) -> None:
        self.folder = folder
        self.size = size
        self._rare = np.array(next(members for members in groups.members if members))
        self._kept: list[tuple[tuple[int, int, int], str, dict[str, Detections]]] = []

    def consider(self, index: int, name: str, labels: np.ndarray, found: dict[str, Detections]) -> None:
        """Look at an image.

        Args:
            index: Its index in the data set.
            name: Its name.
            labels: Classes of its objects.
            found: Readout -> detections.
        """
        rare = labels[np.isin(labels, self._rare)]
        rank = (len(np.unique(rare)), len(rare), -index)
        if not len(labels) or (len(self._kept) == self.size and rank <= self._kept[0][0]):
            return
        best = {readout: best_detections(detections, len(labels)) for readout, detections in found.items()}
        push = heapq.heappush if len(self._kept) < self.size else heapq.heappushpop
        push(self._kept, (rank, name, best))

    def write(self, dataset: DetectionDataset, readouts: list[str]) -> None:
        """Write the pictures of the best images of all ranks; each rank writes its own."""
        everyone = all_gather_objects([(rank, name) for rank, name, _ in self._kept])
        chosen = sorted((entry for entries in everyone for entry in entries), reverse=True)[: self.size]
        self.folder.mkdir(parents=True, exist_ok=True)
        untouched = copy.copy(dataset)
        untouched.transform = None  # the photograph as it is stored
        palette = dataset.classes.palette
        shown: dict[str, list[int]] = {}
        for rank, name, found in self._kept:
            if (rank, name) not in chosen:
                continue
            sample = untouched[-rank[-1]]
            truth = true_objects(sample)
            shown[file_name(name)] = sorted(set(truth.labels.tolist()))
            pictures = {"truth": truth, **found}
            drawn = {k: draw(sample["image"], d, dataset.classes.names, palette) for k, d in pictures.items()}
            drawn["input"] = Image.fromarray(_array(sample["image"]))
            for part, picture in drawn.items():
                picture.save(self.folder / f"{file_name(name)}.{part}.jpg", quality=88)
        everyone = all_gather_objects(shown)
        if is_main_process():
            index = {
                "images": [file_name(name) for _, name in chosen],
                "readouts": readouts,
                "palette": [list(map(int, colour)) for colour in palette],
                "classes": {name: classes for part in everyone for name, classes in part.items()},
            }
            (self.folder / "index.json").write_text(json.dumps(index) + "\n")


def true_objects(sample: DetectionSample) -> Detections:
    """The annotated objects of an untransformed sample, crowd regions left out, in the form of detections."""
    keep = ~sample["crowd"]
    masks = [np.asarray(mask) for mask in sample["masks"][keep]] if "masks" in sample else None
    count = int(keep.sum())
    size = (int(sample["image"].shape[-2]), int(sample["image"].shape[-1]))
    boxes = sample["boxes"].as_subclass(Tensor)[keep]
    return Detections(boxes, torch.full((count,), torch.nan), sample["labels"][keep], size, _plain_masks(masks))


def best_detections(detections: Detections, count: int, threshold: float = 0.0) -> Detections:
    """The best ``count`` detections that score at least ``threshold``."""
    keep = min(count, int((detections.scores >= threshold).sum()))
    return replace(
        detections,
        boxes=detections.boxes[:keep].cpu(),
        scores=detections.scores[:keep].cpu(),
        labels=detections.labels[:keep].cpu(),
        masks=None if detections.masks is None else detections.masks[:keep],
    )


def draw(image: Tensor, detections: Detections, names: Sequence[str], palette: Sequence[Sequence[int]]) -> Image.Image:
    """Boxes, masks and labels on a photograph; the best detection on top.

    Args:
        image: uint8 (3, h, w), RGB.
        detections: In pixels of the image; objects without a score (NaN) are labelled without one.
        names: Names of the classes.
        palette: Colours of the classes.
    """
    pixels = _array(image)
    colours = np.asarray(palette, dtype=np.float32)
    labels = detections.labels.tolist()
    for place in reversed(range(len(detections))):
        if detections.masks is not None:
            inside = _mask(detections.masks[place])
            pixels[inside] = pixels[inside] * (1 - _OPACITY) + colours[labels[place]] * _OPACITY
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    side = max(picture.size)
    width, font = max(1, side // 320), ImageFont.load_default(max(9, side // 45))
    for place in reversed(range(len(detections))):
        score, label = float(detections.scores[place]), labels[place]
        colour = tuple(int(v) for v in palette[label])
        left, top, right, bottom = detections.boxes[place].tolist()
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=width)
        words = names[label] if np.isnan(score) else f"{names[label]} {score:.2f}"
        _label(pen, (left, top), words, colour, font)
    return picture


def _label(pen: ImageDraw.ImageDraw, corner: tuple[float, float], words: str, colour: tuple, font: object) -> None:
    """Words above a corner, or inside it at the upper border; dark on bright colours."""
    _, _, width, height = pen.textbbox((0, 0), words, font=font)  # type: ignore[arg-type]
    left, top = corner[0], corner[1] - height - 2
    top = corner[1] if top < 0 else top
    pen.rectangle((left, top, left + width + 3, top + height + 2), fill=colour)
    bright = np.dot(colour, (0.299, 0.587, 0.114)) > 140
    pen.text((left + 2, top), words, fill=(0, 0, 0) if bright else (255, 255, 255), font=font)  # type: ignore[arg-type]


def _array(image: Tensor) -> np.ndarray:
    return image.as_subclass(Tensor).permute(1, 2, 0).cpu().numpy().copy()


def _mask(mask: dict) -> np.ndarray:
    return mask["pixels"] if "pixels" in mask else decode_mask(mask)


def _plain_masks(masks: list[np.ndarray] | None) -> list[dict] | None:
    """True masks as they are: encoding them to decode them again would be for nothing."""
    return None if masks is None else [{"pixels": mask} for mask in masks]


__all__ = ["DetectionPictureBook", "best_detections", "draw", "true_objects"]
