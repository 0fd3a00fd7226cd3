"""Photographs of images by their ids, for pictures of what fails."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from longtail.datasets.annotated import place_images
from longtail.datasets.rgb_photographs import as_rgb
from longtail.errors import DataError
from longtail.metrics.detection_truth import DetectionTruth

#: Image id -> photograph; None where it cannot be read.
Photo = Callable[[int], Image.Image | None]


def photos_in(folder: str | Path, truth: DetectionTruth) -> Photo:
    """Photographs of a folder, by the names that the annotations have.

    Raises:
        DataError: There is no such folder, or two files fit one name.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is no folder", fix="give the folder of the photographs")
    records = truth.file.images
    named = [str(r.get("file_name") or Path(str(r.get("coco_url", r["id"]))).name) for r in records]
    files = dict(zip(truth.file.image_ids.tolist(), place_images(named, [root], root), strict=True))

    def read(image: int) -> Image.Image | None:
        try:
            with Image.open(files[image]) as photo:
                return photo.convert("RGB")
        except OSError:
            return None

    return read


def photos_of(dataset: Any) -> Photo:
    """Photographs of a data set for detection, as they are stored."""
    stored = copy.copy(dataset)
    stored.transform = None
    ids = getattr(dataset, "image_ids", None)
    places = {int(image): place for place, image in enumerate(range(len(dataset)) if ids is None else ids)}

    def read(image: int) -> Image.Image | None:
        place = places.get(image)
        try:
            sample = None if place is None else stored[place]
        except DataError:
            return None
        if sample is None or int(sample["image_id"]) != image:  # ids need not be places
            return None
        return Image.fromarray(as_rgb(sample["image"]).permute(1, 2, 0).numpy())

    return read
