"""Semantic maps of images with objects, for detectors with a semantic branch."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8

from longtail.errors import ConfigError, DataError
from longtail.frequency.label_image import label_values, open_label

#: Pixels of no known class.
IGNORED = 255
#: Instead of a folder: the map is painted from the masks of the objects.
FROM_OBJECTS = "objects"


def read_semantic_map(folder: Path, image: str, size: tuple[int, int]) -> np.ndarray:
    """The map of an image: a single-channel PNG of the image's name, 255 where no class is known.

    COCO-stuff's ``stuffthingmaps`` are such files.

    Args:
        folder: Folder of the maps; they lie in it as the images lie in theirs, or all in one place.
        image: Path of the image in the folder of the images.
        size: (h, w) of the image.

    Raises:
        DataError: There is no such file, or it is of another size.
    """
    inside, plain = folder / Path(image).with_suffix(".png"), folder / f"{Path(image).stem}.png"
    path = inside if inside.is_file() else plain
    if not path.is_file():
        raise DataError(f"image {image} has no semantic map at {inside} or {plain}", fix="check the folder")
    values = label_values(open_label(path))
    if values.shape != size:
        raise DataError(f"the map {path} is {values.shape}, its image {size}", fix="use the maps of these images")
    return values.copy()


def paint_semantic_map(
    masks: Bool[np.ndarray, "n h w"], labels: Int[np.ndarray, " n"], num_classes: int
) -> UInt8[np.ndarray, "h w"]:
    """Class of the smallest object at every pixel; ``num_classes``, the background, where there is none.

    Args:
        masks: Masks of the objects, crowd regions included.
        labels: Their classes.
        num_classes: Number of classes C; the branch has C + 1.

    Raises:
        ConfigError: So many classes that one of them would be 255.
    """
    if num_classes >= IGNORED:
        raise ConfigError(
            f"semantic maps of {num_classes} classes and the background", fix="give a folder of maps with fewer classes"
        )
    painted = np.full(tuple(masks.shape[1:]), num_classes, np.uint8)
    for place in np.argsort(-masks.sum(axis=(1, 2)), kind="stable"):
        painted[masks[place]] = labels[place]
    return painted
