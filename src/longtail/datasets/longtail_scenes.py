"""``LongTailScenes``: long-tailed synthetic scenes whose objects differ by their context."""

import hashlib
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from longtail.datasets.base import ClassInfo, DetectionDataset, DetectionSample, SegmentationDataset, SegmentationSample
from longtail.datasets.palette import Palette, generate_palette
from longtail.datasets.sample_tensors import box_tensor, image_tensor, mask_tensor, plain_tensor
from longtail.datasets.scene_painting import Ground, paint_image, paint_labels
from longtail.datasets.scene_plan import (
    SURROUNDINGS,
    Draw,
    choose_homes,
    lay_out_regions,
    object_kinds,
    place_objects,
    with_neighbours,
)
from longtail.errors import ConfigError

Task = Literal["segmentation", "detection"]
_NUM_IMAGES = {"train": 600, "val": 200, "test": 200}
_GROUND_COLOURS: Palette = ((124, 170, 70), (64, 132, 170), (222, 196, 140), (128, 124, 128))
_VERSION = 1  # of the scenes: raise when a change alters any pixel


class LongTailScenes(SegmentationDataset, DetectionDataset):
    """Scenes seen from above: objects on grass, water, sand and rock.

    Objects follow Zipf's law. The rarer half of the classes looks like the more frequent half and is smaller;
    its class shows in its *context*: the surrounding that it lies on, or the neighbour that it touches. Scene
    ``index`` depends on (seed, split, index, size, number of objects, imbalance) alone and is the same in every
    process and on every machine.

    For ``task="segmentation"`` the classes are the four surroundings and the objects, and samples are
    ``SegmentationSample``; for ``task="detection"`` they are the objects, and samples are ``DetectionSample`` with
    masks of the visible parts. With as many objects, both show the same scenes.

    Args:
        split: "train", "val", "test" or any other name: each has other scenes.
        num_images: None takes 600 for train, else 200.
        size: (h, w) of the images, in pixels.
        num_classes: None takes 16 for segmentation and 12 for detection: the same twelve objects.
        seed: Another seed gives other scenes of the same world.
        imbalance: Draws of the most frequent object for one of the rarest.
        task: Content of a sample: label images or boxes.
        semantic: Detection: also give the label maps of segmentation (surroundings, then objects) as ``semantic``.
        transform: Applied to the whole sample dict.

    Raises:
        ConfigError: A size, number or task that cannot be.
    """

    ignore_index = 255
    transform: Callable[[Any], Any] | None

    def __init__(
        self,
        split: str = "train",
        num_images: int | None = None,
        size: tuple[int, int] = (128, 128),
        num_classes: int | None = None,
        seed: int = 0,
        imbalance: float = 40.0,
        task: Task = "segmentation",
        semantic: bool = False,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if task not in ("segmentation", "detection"):
            raise ConfigError(f"task {task!r} is unknown", fix='choose "segmentation" or "detection"')
        grounds = len(SURROUNDINGS) if task == "segmentation" else 0
        num_objects = 12 if num_classes is None else num_classes - grounds
        num_images = _NUM_IMAGES.get(split, 200) if num_images is None else num_images
        if not 4 <= num_objects <= 200:
            raise ConfigError(
                f"num_classes = {num_classes} is outside {4 + grounds} … {200 + grounds}",
                fix=f"choose more classes; {grounds} of them are surroundings" if grounds else "choose 4 … 200 classes",
            )
        if num_images < 0 or min(size) < 32 or imbalance < 1 or seed < 0:
            raise ConfigError(
                f"num_images = {num_images}, size = {size}, imbalance = {imbalance}, seed = {seed}",
                fix="images and seed start at 0, sides at 32 pixels, the imbalance at 1",
            )
        self.split, self.num_images, self.size, self.seed = split, num_images, (int(size[0]), int(size[1])), seed
        self.task, self.imbalance, self.transform = task, float(imbalance), transform
        self.semantic = semantic
        self.kinds = object_kinds(num_objects)
        palette = _object_colours(num_objects)
        names = tuple(kind.name for kind in self.kinds)
        self.classes = (
            ClassInfo(SURROUNDINGS + names, _GROUND_COLOURS + palette) if grounds else ClassInfo(names, palette)
        )
        self._key = (seed, zlib.crc32(split.encode()))
        self._draw = Draw(num_objects, self.imbalance, self._key)

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> SegmentationSample | DetectionSample:  # type: ignore[override]
        index = self._checked(index)
        ground, things, owner, outlines = self._labels(index)
        pixels = paint_image(ground, things, outlines, self.kinds, self._rng(index, 1))
        image = image_tensor(pixels)
        sample: Any
        if self.task == "segmentation":
            mask = mask_tensor(self._semantic(ground, things, owner))
            sample = {"image": image, "mask": mask, "name": f"{index:06d}"}
        else:
            sample = self._instances(image, [thing.kind for thing in things], owner, index)
            if self.semantic:
                sample["semantic"] = mask_tensor(self._semantic(ground, things, owner))
        return sample if self.transform is None else self.transform(sample)

    def mask(self, index: int) -> np.ndarray:
        """Class ids uint8 (h, w) of one scene, without painting it: surroundings first, then objects."""
        ground, things, owner, _ = self._labels(self._checked(index))
        return self._semantic(ground, things, owner)

    @property
    def image_labels(self) -> list[np.ndarray]:
        """Object classes 0 … of every scene, as in its detection sample, without rendering."""
        return [
            np.array([kind for kind, _ in with_neighbours(self.kinds, self._draw(i))], dtype=np.int64)
            for i in range(self.num_images)
        ]

    @property
    def fingerprint(self) -> str:
        """Digest of all that the scenes depend on."""
        facts = (_VERSION, self.split, self.num_images, self.size, self.classes.names, self.seed, self.imbalance)
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def _checked(self, index: int) -> int:
        if not -self.num_images <= index < self.num_images:
            raise IndexError(f"scene {index} of {self.num_images}")
        return index % self.num_images

    def _rng(self, index: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([*self._key, index, purpose])

    def _labels(self, index: int) -> tuple:
        """Ground, placed objects, object of every pixel, outlines."""
        rng = self._rng(index, 0)
        objects = with_neighbours(self.kinds, self._draw(index))
        homes = choose_homes(self.kinds, objects, rng)
        ground = Ground(lay_out_regions(homes, self.size, rng), self.size, rng)
        things = place_objects(self.kinds, objects, homes, ground.surrounding, rng)
        owner, outlines = paint_labels(ground, things, self.kinds, self.size)
        return ground, things, owner, outlines

    def _semantic(self, ground: Ground, things: list, owner: np.ndarray) -> np.ndarray:
        ids = np.array([0, *(len(SURROUNDINGS) + thing.kind for thing in things)], np.uint8)
        return np.where(owner > 0, ids[owner], ground.surrounding)

    def _instances(self, image: Any, labels: list[int], owner: np.ndarray, index: int) -> DetectionSample:
        masks = owner[None] == np.arange(1, len(labels) + 1, dtype=np.uint8)[:, None, None]
        boxes = np.zeros((len(labels), 4), np.float32)
        for box, mask in zip(boxes, masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return {
            "image": image,
            "boxes": box_tensor(boxes, self.size),
            "labels": plain_tensor(np.array(labels, np.int64)),
            "masks": mask_tensor(masks),
            "crowd": plain_tensor(np.zeros(len(labels), bool)),
            "image_id": index,
            "name": f"{index:06d}",
        }


def _object_colours(count: int) -> Palette:
    """Generated colours, without those that are close to a ground's."""
    colours = generate_palette(2 * count + 40)
    apart = [
        c for c in colours if all(sum(abs(a - b) for a, b in zip(c, g, strict=True)) > 110 for g in _GROUND_COLOURS)
    ]
    return tuple(apart[:count])
