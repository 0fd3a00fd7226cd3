"""Any data set with a COCO-style annotation file."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from longtail.annotations.checks import whole_numbers
from longtail.annotations.coco_file import CocoFile
from longtail.annotations.read import read_coco_file
from longtail.datasets.annotated import Annotated, place_images
from longtail.datasets.base import ClassInfo, DetectionDataset, DetectionSample
from longtail.datasets.coco_layouts import find_coco, image_folders
from longtail.datasets.palette import generate_palette
from longtail.datasets.photographs import RGB, PhotoFormat
from longtail.datasets.sample_tensors import box_tensor, mask_tensor, plain_tensor
from longtail.datasets.semantic_maps import FROM_OBJECTS, paint_semantic_map, read_semantic_map
from longtail.datasets.splits import ALL, in_split, parting_note
from longtail.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torchvision import tv_tensors


class Coco(DetectionDataset):
    """Images with objects from a COCO-style JSON file: boxes alone, or with polygons or run lengths.

    Class ids are 0 … C-1 in the order of the category ids. Boxes without any area inside the image are no objects.

    Args:
        root: Folder of the data set. The annotations are looked for at ``annotations/SPLIT.json``,
            ``annotations/instances_SPLIT2017.json``, ``annotations/instances_SPLIT.json``, ``SPLIT.json`` and
            ``SPLIT/_annotations.coco.json``, then among all files that name the split; the images in folders of the
            split, ``images`` and the folder itself, then by the ends of their paths.
        split: "train", "val" (``valid`` and ``validation`` are the same), …; "all" where there are no splits.
        annotations: The annotation file, where it is elsewhere; relative to ``root``, or to the working folder.
            ``{split}`` in it is the split.
        images: Folder that the file names of the images are relative to; likewise.
        masks: Whether samples have masks; None for what all objects have.
        outside: Boxes that reach out of their image are cut at its border, or refused.
        semantic: Also give semantic maps: a folder of single-channel PNGs named as the images (COCO-stuff's, 255 where
            no class is known), relative to ``root``, or "objects" to paint them from the masks.
        keep_empty: Keep images without objects; they are examples of background.
        check_files: Look for all image files at once rather than fail when the first missing one is read.
        val_share: Share of the images that is "val" where one file holds all images; 0.2 when not given.
        split_by: Pattern that groups the images there, such as ``video_(\\d+)``: see ``splits.in_split``.
        transform: Applied to every sample dict.

    Attributes:
        annotation_file: The annotation file; None where images were left out, so that it says more than is here.

    Raises:
        DataError: The annotations are missing or wrong, some objects have masks and some none, or an image file is
            missing.
    """

    photos: PhotoFormat = RGB

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
        val_share: float | None = None,
        split_by: str | None = None,
        transform: Callable[[DetectionSample], DetectionSample] | None = None,
    ) -> None:
        root = Path(root).expanduser()
        self.split = split
        self.transform = transform
        if not root.is_dir():
            raise DataError(f"data folder {root} does not exist", fix="check the path")
        found = self._named(root, split, annotations) if annotations else self._find(root, split)
        self.file: CocoFile = found.table
        self.note = "; ".join(filter(None, (found.note, *self.file.notes)))
        file = self.file.path
        if outside not in ("clip", "refuse"):
            raise ConfigError(f"outside is {outside!r}", fix="choose 'clip' or 'refuse'")
        self.classes = ClassInfo(self.file.class_names, generate_palette(self.file.num_classes))
        self._paths = [self._image_path(record, file) for record in self.file.images]
        self._root = path_for_split(root, images, split) if images else root
        self._folders = [self._root] if images else found.folders
        self._boxes, self._kept = self._clip(outside)
        self.has_masks = self._decide_masks(masks)
        self.semantic = semantic if semantic in (None, FROM_OBJECTS) else path_for_split(root, semantic, split)
        if semantic == FROM_OBJECTS and not self.has_masks:
            raise DataError(f"{file} has no masks to paint semantic maps from", fix="give a folder of maps instead")
        counts = np.bincount(self.file.image_index[self._kept], minlength=len(self.file.images))
        shown = self._part(found.has_splits, bool(annotations), val_share, split_by)
        self._shown = np.flatnonzero(shown & (counts > 0) if not keep_empty else shown)
        whole = self.file.content is None and len(self._shown) == len(self.file.images)
        self.annotation_file = self.file.path if whole else None
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
            "boxes": box_tensor(self._boxes[objects], size),
            "labels": plain_tensor(self.file.labels[objects]),
            "crowd": plain_tensor(self.file.crowd[objects]),
            "image_id": int(record["id"]),
            "name": self._files[place].stem,
        }
        if self.has_masks:
            masks = self.file.masks(objects, size).astype(bool, copy=False)
            sample["masks"] = mask_tensor(masks)
            if self.semantic == FROM_OBJECTS:
                painted = paint_semantic_map(masks, self.file.labels[objects], self.classes.num_classes)
                sample["semantic"] = mask_tensor(painted)
        if self.semantic not in (None, FROM_OBJECTS):
            sample["semantic"] = mask_tensor(read_semantic_map(Path(self.semantic), self._paths[place], size))
        return sample if self.transform is None else self.transform(sample)

    @property
    def image_ids(self) -> list[int]:
        """Id of every image, in order."""
        return self.file.image_ids[self._shown].tolist()

    @property
    def image_files(self) -> list[Path]:
        """File of every image, in order."""
        return [self._files[i] for i in self._shown]

    @cached_property
    def _files(self) -> list[Path]:
        """File of every image of the annotations."""
        return place_images(self._paths, self._folders, self._root)

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

    def _find(self, root: Path, split: str) -> Annotated:
        """Annotations of the split in the layout of the data set."""
        return find_coco(root, split)

    def _named(self, root: Path, split: str, annotations: str | Path) -> Annotated:
        """Annotations of the file that was named."""
        file = path_for_split(root, annotations, split)
        return Annotated(read_coco_file(file), image_folders(root, split, file))

    def _part(self, has_splits: bool, named: bool, val_share: float | None, split_by: str | None) -> np.ndarray:
        """Which images are in the split, bool; all of them unless it has to be made."""
        if has_splits and val_share is None and split_by is None:
            return np.ones(len(self._paths), dtype=bool)
        if has_splits and not named:
            raise ConfigError(
                f"val_share or split_by is given, but {self._root} already has splits",
                fix="leave them out, or name one file of all images with annotations=…",
            )
        share = 0.2 if val_share is None else val_share
        names = [PurePosixPath(path).with_suffix("").as_posix() for path in self._paths]
        inside = in_split(names, self.split, self.file.path, val_share=share, split_by=split_by)
        if self.split != ALL:
            self.note = "; ".join(filter(None, (self.note, parting_note(self.file.path, share, split_by))))
        return np.array(inside, dtype=bool)

    @staticmethod
    def _image_path(record: dict[str, Any], source: Path) -> str:
        """File of an image, relative to the image root."""
        name = record.get("file_name") or url_path(record)
        if not name or not isinstance(name, str):
            raise DataError(f"image {record.get('id')} of {source} has the file_name {name!r}", fix="name its file")
        return name

    def _objects(self, place: int) -> np.ndarray:
        annotations = self.file.of_image(place)
        return annotations[self._kept[annotations]]

    def _read(self, place: int) -> "tv_tensors.Image":
        record, path = self.file.images[place], self._files[place]
        image = self.photos.read(path)
        expected = (record.get("height"), record.get("width"))
        if None not in expected and tuple(image.shape[-2:]) != expected:
            raise DataError(
                f"image {record['id']} is {tuple(image.shape[-2:])} in {path}, but {expected} in {self.file.path}",
                fix="use the images that were annotated, or correct height and width",
            )
        return image

    def _clip(self, outside: str) -> tuple[np.ndarray, np.ndarray]:
        """Boxes cut at the borders of their images, and which of them have an area there."""
        sizes = [
            whole_numbers(self.file.path, "images", self.file.images, side, "give the size in pixels")
            for side in ("width", "height")
        ]
        limits = np.stack(sizes, axis=1)[self.file.image_index]
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
                fix="give it a segmentation, or train boxes alone with masks=False (--data.masks false)",
            )
        return bool(wanted or with_masks)

    def _check_files(self) -> None:
        files = self.image_files
        folders = {file.parent for file in files}  # to list them is far cheaper than to ask for each file
        listed = {file for folder in folders if folder.is_dir() for file in folder.iterdir()}
        missing = [place for place, file in enumerate(files) if file not in listed]
        if missing:
            raise DataError(
                f"{len(missing)} image files of {self.file.path} are missing, first image "
                f"{self.image_ids[missing[0]]}: {files[missing[0]]}",
                fix="name the folder that the file names are relative to with images=…, or restore the files",
            )


def url_path(record: dict[str, Any]) -> str | None:
    """Folder and file of an image at the end of its ``coco_url``: ``train2017/000000391895.jpg``."""
    url = record.get("coco_url")
    return "/".join(url.split("/")[-2:]) if url and isinstance(url, str) else None


def path_for_split(root: Path, path: str | Path, split: str) -> Path:
    """A path in which ``{split}`` stands for the split, relative to the data set or else to the working folder.

    Raises:
        DataError: There is nothing in either place.
    """
    name = Path(str(path).replace("{split}", split)).expanduser()
    found = next((place for place in (root / name, name) if place.exists()), None)
    if found is None:
        places = f"{name}" if name.is_absolute() else f"{root / name} nor {name.absolute()}"
        raise DataError(
            f"there is {'no' if name.is_absolute() else 'neither'} {places}",
            fix="give a path relative to the data set or to where you stand; {split} in it stands for the split",
        )
    return found
