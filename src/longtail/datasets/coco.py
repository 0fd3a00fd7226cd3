"""Any data set with a COCO-style annotation file."""

import hashlib
import os
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torchvision import tv_tensors

from longtail.annotations.coco_file import CocoFile, read_coco_file, whole_numbers
from longtail.datasets.base import ClassInfo, DetectionDataset, DetectionSample
from longtail.datasets.image_files import read_image
from longtail.datasets.palette import generate_palette
from longtail.datasets.semantic_maps import FROM_OBJECTS, paint_semantic_map, read_semantic_map
from longtail.errors import ConfigError, DataError


class Coco(DetectionDataset):
    """Images with objects from a COCO-style JSON file: boxes alone, or with polygons or run lengths.

    Class ids are 0 … C-1 in the order of the category ids. Boxes without any area inside the image are no objects.

    Args:
        root: Folder of the data set. The annotations are looked for at ``annotations/SPLIT.json``,
            ``annotations/instances_SPLIT2017.json``, ``annotations/instances_SPLIT.json`` and ``SPLIT.json``, the
            images in ``images``, ``SPLIT2017``, ``SPLIT`` and the folder itself.
        split: "train", "val", … as the files call it.
        annotations: The annotation file, where it is elsewhere; relative to ``root``.
        images: Folder that the file names of the images are relative to; relative to ``root``.
        masks: Whether samples have masks; None for what all objects have.
        outside: Boxes that reach out of their image are cut at its border, or refused.
        semantic: Also give semantic maps: a folder of single-channel PNGs named as the images (COCO-stuff's, 255 where
            no class is known), relative to ``root``, or "objects" to paint them from the masks.
        keep_empty: Keep images without objects; they teach what is background.
        check_files: Look for all image files at once rather than fail when the first missing one is read.
        transform: Applied to every sample dict.

    Attributes:
        annotation_file: The annotation file; None where images were left out, so that it says more than is here.

    Raises:
        DataError: The annotations are missing or wrong, some objects have masks and some none, or an image file is
            missing.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        annotations: str | Path | None = None,
        images: str | Path | None = None,
        masks: bool | None = None,
        outside: Literal["clip", "refuse"] = "clip",
        semantic: str | Path | None = None,
        keep_empty: bool = True,
        check_files: bool = True,
        transform: Callable[[DetectionSample], DetectionSample] | None = None,
    ) -> None:
        root = Path(root).expanduser()
        self.split = split
        self.transform = transform
        file = root / annotations if annotations else _first(self._annotation_files(root, split), "annotations")
        self.file: CocoFile = read_coco_file(file)
        if outside not in ("clip", "refuse"):
            raise ConfigError(f"outside is {outside!r}", fix="choose 'clip' or 'refuse'")
        self.classes = ClassInfo(
            tuple(str(c.get("name", c["id"])) for c in self.file.categories), generate_palette(self.file.num_classes)
        )
        self._paths = [self._image_path(record, file) for record in self.file.images]
        self.image_root = root / images if images else _image_root(self._image_roots(root, split), self._paths)
        self._boxes, self._kept = self._clip(outside)
        self.has_masks = self._decide_masks(masks)
        self.semantic = semantic if semantic in (None, FROM_OBJECTS) else root / semantic
        if semantic == FROM_OBJECTS and not self.has_masks:
            raise DataError(f"{file} has no masks to paint semantic maps from", fix="give a folder of maps instead")
        owner = np.repeat(np.arange(len(self.file.images)), np.diff(self.file.first))
        counts = np.bincount(owner[self._kept], minlength=len(self.file.images))
        self._shown = np.arange(len(self.file.images)) if keep_empty else np.flatnonzero(counts)
        self.annotation_file = self.file.path if len(self._shown) == len(self.file.images) else None
        if check_files:
            self._check_files()

    def __len__(self) -> int:
        return len(self._shown)

    def __getitem__(self, index: int) -> DetectionSample:
        place = int(self._shown[index])
        record = self.file.images[place]
        image = self._read(place)
        objects = self._objects(place)
        size = (int(image.shape[-2]), int(image.shape[-1]))
        sample: DetectionSample = {
            "image": image,
            "boxes": tv_tensors.BoundingBoxes(
                torch.from_numpy(self._boxes[objects].astype(np.float32)), format="XYXY", canvas_size=size
            ),
            "labels": torch.from_numpy(self.file.labels[objects]),
            "crowd": torch.from_numpy(self.file.crowd[objects]),
            "image_id": int(record["id"]),
            "name": Path(self._paths[place]).stem,
        }
        if self.has_masks:
            sample["masks"] = tv_tensors.Mask(torch.from_numpy(self.file.masks(objects, size)).bool())
        if self.semantic == FROM_OBJECTS:
            sample["semantic"] = paint_semantic_map(sample["masks"], sample["labels"], self.classes.num_classes)
        elif self.semantic is not None:
            sample["semantic"] = read_semantic_map(Path(self.semantic), self._paths[place], size)
        return sample if self.transform is None else self.transform(sample)

    @property
    def image_ids(self) -> list[int]:
        """Id of every image, in order."""
        return [int(self.file.images[i]["id"]) for i in self._shown]

    @property
    def image_files(self) -> list[Path]:
        """File of every image, in order."""
        return [self.image_root / self._paths[i] for i in self._shown]

    @property
    def category_ids(self) -> np.ndarray:
        """Category id of every class, int64 (C,)."""
        return np.array([category["id"] for category in self.file.categories], dtype=np.int64)

    @cached_property
    def image_labels(self) -> list[np.ndarray]:
        """Class id of every object of every image, crowd regions left out."""
        counted = self._kept & ~self.file.crowd
        return [self.file.labels[(a := self.file.of_image(int(i)))[counted[a]]] for i in self._shown]

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the annotations: changes when an image, a box or a class does."""
        digest = hashlib.sha256(repr((self.classes.names, self.image_ids)).encode())
        for array in (self.file.first, self.file.labels, self.file.boxes, self.file.crowd):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @staticmethod
    def _annotation_files(root: Path, split: str) -> list[Path]:
        folder = root / "annotations"
        names = (f"{split}.json", f"instances_{split}2017.json", f"instances_{split}.json")
        return [*(folder / name for name in names), root / f"{split}.json"]

    @staticmethod
    def _image_roots(root: Path, split: str) -> list[Path]:
        return [root / "images", root / f"{split}2017", root / split, root]

    @staticmethod
    def _image_path(record: dict[str, Any], source: Path) -> str:
        """File of an image, relative to the image root."""
        name = record.get("file_name") or url_path(record)
        if not name:
            raise DataError(f"image {record.get('id')} of {source} has no file_name", fix="name its file")
        return name

    def _objects(self, place: int) -> np.ndarray:
        annotations = self.file.of_image(place)
        return annotations[self._kept[annotations]]

    def _read(self, place: int) -> tv_tensors.Image:
        record, path = self.file.images[place], self.image_root / self._paths[place]
        image = read_image(path)
        expected = (record.get("height"), record.get("width"))
        if None not in expected and tuple(image.shape[-2:]) != expected:
            raise DataError(
                f"image {record['id']} is {tuple(image.shape[-2:])} in {path}, but {expected} in {self.file.path}",
                fix="use the images that were annotated, or correct height and width",
            )
        return image

    def _clip(self, outside: str) -> tuple[np.ndarray, np.ndarray]:
        """Boxes cut at the borders of their images, and which of them have an area there."""
        try:
            sizes = [
                whole_numbers(self.file.path, "images", self.file.images, side, "give the size in pixels")
                for side in ("width", "height")
            ]
        except KeyError as error:
            raise DataError(f"an image of {self.file.path} has no width and height", fix="add them") from error
        limits = np.repeat(np.stack(sizes, axis=1), np.diff(self.file.first), axis=0)
        boxes = np.clip(self.file.boxes, 0.0, np.concatenate([limits, limits], axis=1))
        if outside == "refuse" and (strays := np.abs(boxes - self.file.boxes).max(axis=1) > 1.0).any():
            raise DataError(
                f"annotation {self.file.ids[strays][0]} of {self.file.path} reaches out of its image: "
                f"{self.file.boxes[strays][0].tolist()} (xyxy)",
                fix="correct the box, or cut it with outside='clip'",
            )
        return boxes, (boxes[:, 2:] > boxes[:, :2]).all(axis=1)

    def _decide_masks(self, wanted: bool | None) -> bool:
        if wanted is False:
            return False
        lacking = self._kept & ~self.file.has_masks
        with_masks = self._kept.sum() - lacking.sum()
        if lacking.any() and (wanted or with_masks):
            raise DataError(
                f"annotation {self.file.ids[lacking][0]} of {self.file.path} has no mask ({lacking.sum()} of "
                f"{self._kept.sum()} objects are without)",
                fix="give it a segmentation, or train boxes alone with masks=False (data.options: {masks: false})",
            )
        return bool(wanted or with_masks)

    def _check_files(self) -> None:
        listed: dict[Path, set[str]] = {}
        missing = []
        for i in self._shown:
            path = self.image_root / self._paths[i]
            if path.parent not in listed:
                listed[path.parent] = _names_in(path.parent)
            if path.name not in listed[path.parent]:
                missing.append((self.file.images[i]["id"], path))
        if missing:
            raise DataError(
                f"{len(missing)} image files of {self.file.path} are missing, first image {missing[0][0]}: "
                f"{missing[0][1]}",
                fix="name the folder that the file names are relative to with images=…, or restore the files",
            )


def url_path(record: dict[str, Any]) -> str | None:
    """Folder and file of an image at the end of its ``coco_url``: ``train2017/000000391895.jpg``."""
    url = record.get("coco_url")
    return "/".join(url.split("/")[-2:]) if url else None


def _names_in(folder: Path) -> set[str]:
    """Names of the files of a folder, maybe none: one listing is far cheaper than a question for each file."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries}


def _first(candidates: Iterable[Path], what: str) -> Path:
    candidates = list(candidates)
    for path in candidates:
        if path.exists():
            return path
    raise DataError(
        f"no {what} at {', '.join(str(c) for c in candidates)}", fix=f"name the file with {what}=… or check the folder"
    )


def _image_root(candidates: list[Path], paths: list[str]) -> Path:
    """The first folder that holds the first image."""
    for folder in candidates:
        if paths and (folder / paths[0]).is_file():
            return folder
    return candidates[0] if candidates[0].is_dir() else candidates[-1]
