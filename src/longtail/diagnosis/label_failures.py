"""Pictures of the regions where the failing classes of a segmentation fail, and of their training examples."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from longtail.diagnosis.crops import FOUND, TRUE, as_jpeg, draw_region
from longtail.diagnosis.failure_file import Failure
from longtail.metrics.label_diagnosis import LabelDiagnosis
from longtail.metrics.label_regions import Region

MOST_CLASSES = 50  # of which pictures are drawn: the page stays below 20 MB
_EXAMPLES = 3
_LOOKED_AT = 400  # training images at most that are searched for examples
_LEAST = 100  # pixels of an example
#: Name of an image -> photograph; None where it cannot be read.
Photo = Callable[[str], Image.Image | None]


def photos_named(files: Mapping[str, Path]) -> Photo:
    """Photographs by the names of their images."""

    def read(name: str) -> Image.Image | None:
        try:
            with Image.open(files[name]) as photo:
                return photo.convert("RGB")
        except (OSError, KeyError):
            return None

    return read


def region_failures(
    diagnosis: LabelDiagnosis,
    class_names: Sequence[str],
    photo: Photo,
    training: Any = None,
) -> dict[str, list[Failure]]:
    """Class name -> pictures of its errors, then of its training examples; the class of the lowest IoU first.

    Args:
        diagnosis: Of all images, with the regions of wrong pixels.
        class_names: Names of the C classes.
        photo: Reads the photographs.
        training: Training images, an ``ImageLabelPairs``.
    """
    right, true, called = np.sum(diagnosis.counts, axis=0)
    iou = np.where(true > 0, right / np.maximum(true + called - right, 1), 2.0)
    worst = [int(c) for c in np.argsort(iou, kind="stable")[:MOST_CLASSES] if iou[c] < 1]
    examples = {} if training is None else training_regions(training, worst)
    result = {}
    for label in worst:
        drawn = []
        for sort, verb, colour in (("false positive", "is", FOUND), ("missed", "called", TRUE)):
            for region in diagnosis.regions.of(label, sort):
                words = f"{verb} {class_names[region.other]}, {region.pixels:,} px"
                drawn += _drawn(region, words, photo, colour)
        if drawn:
            shown = photos_named({name: image for name, image, _ in training.pairs}) if examples else photo
            drawn += [f for region in examples.get(label, ()) for f in _drawn(region, "", shown, TRUE)]
            result[class_names[label]] = drawn
    return result


def training_regions(training: Any, labels: Sequence[int]) -> dict[int, list[Region]]:
    """The first training images that show each class, out of the first few hundred."""
    found: dict[int, list[Region]] = {label: [] for label in labels}
    for index in range(min(len(training), _LOOKED_AT)):
        wanted = [label for label, regions in found.items() if len(regions) < _EXAMPLES]
        if not wanted:
            break
        mask = training.mask(index)
        for label in set(wanted).intersection(np.unique(mask).tolist()):
            inside = mask == label
            if (pixels := int(inside.sum())) >= _LEAST:
                rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
                box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
                part = inside[box[1] : box[3], box[0] : box[2]]
                found[label].append(Region(training.pairs[index][0], label, "training", label, pixels, box, part))
    return found


def _drawn(region: Region, words: str, photo: Photo, colour: tuple[int, int, int]) -> list[Failure]:
    image = photo(region.image)
    if image is None:
        return []
    return [Failure(region.sort, words, as_jpeg(draw_region(image, region.box, region.inside, colour)))]
