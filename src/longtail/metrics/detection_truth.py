"""Annotations to score detections against, as the evaluator, hotcoco, reads them."""

import codecs
import copy
import json
import mmap
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from longtail.encoded_masks import find_fault
from longtail.errors import DataError
from longtail.frequency.counts import ClassFrequency
from longtail.frequency.groups import CategoryGroups
from longtail.metrics.detection_arrays import text_mask

_FEDERATED = ("neg_category_ids", "not_exhaustive_category_ids")


class DetectionTruth:
    """Annotations to score detections against.

    Args:
        annotations: COCO- or LVIS-style JSON file, or its content.

    Attributes:
        category_ids: int64 (C,), category id of every class, ascending.
        categories: The categories of the file, in the order of the classes.
        class_names: Names of the C classes.
        coco: hotcoco's form of the annotations.
        image_ids: int64, ids of all images, ascending.
        federated: Whether the file says which classes were looked for in its images (LVIS): others are then neither
            right nor wrong.

    Raises:
        DataError: The file cannot be read, or an annotation names an image or a category that is not there.
    """

    def __init__(self, annotations: str | Path | Mapping[str, Any]) -> None:
        import hotcoco

        source = annotations if isinstance(annotations, (str, Path)) else "the annotations"
        try:
            content = _readable(annotations) if isinstance(annotations, (str, Path)) else dict(annotations)
            self.coco = hotcoco.COCO(content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"cannot read {source}: {error}", fix="give a COCO- or LVIS-style annotation file"
            ) from error
        self.category_ids = np.array(sorted(self.coco.get_cat_ids()), dtype=np.int64)
        self.image_ids = np.array(sorted(self.coco.get_img_ids()), dtype=np.int64)
        if not len(self.category_ids) or not len(self.image_ids):
            raise DataError(f"{source} has no categories or no images", fix="give a COCO-style annotation file")
        self.categories = self.coco.load_cats(self.category_ids.tolist())
        self.class_names = tuple(str(c.get("name", c["id"])) for c in self.categories)
        self.federated = _is_federated(content)
        self._source = source
        self._check_references(source)

    @classmethod
    def from_dataset(cls, dataset: Any) -> "DetectionTruth":
        """Annotations of a ``DetectionDataset``: its file where it has one, else every sample is read once.

        Args:
            dataset: Its transform is left out: detections are in pixels of the stored images. A data set with an
                ``annotation_file`` must show all of the file's images.
        """
        path = getattr(dataset, "annotation_file", None)
        if path is not None:
            return cls(path)
        plain = copy.copy(dataset)
        plain.transform = None
        return cls(annotations_of((plain[i] for i in range(len(plain))), plain.classes.names))

    @classmethod
    def of_images(cls, annotations: str | Path | bytes, image_ids: Collection[int]) -> "DetectionTruth":
        """Annotations of some images of a file, or of its content, alone; by the rules of the whole file.

        Raises:
            DataError: The file cannot be read.
        """
        try:
            content = json.loads(annotations if isinstance(annotations, bytes) else Path(annotations).read_bytes())
            wanted, federated = set(image_ids), _is_federated(content)
            content["images"] = [image for image in content["images"] if image["id"] in wanted]
            content["annotations"] = [a for a in content["annotations"] if a["image_id"] in wanted]
        except (OSError, ValueError, KeyError, TypeError) as error:
            source = "the annotations" if isinstance(annotations, bytes) else annotations
            raise DataError(f"cannot read {source}: {error}", fix="give a COCO-style annotation file") from error
        truth = cls(content)
        truth.federated = federated
        return truth

    @property
    def num_classes(self) -> int:
        """Number of classes, C."""
        return len(self.category_ids)

    @property
    def groups(self) -> CategoryGroups:
        """The file's own groups: LVIS's ``frequency`` letters, else by ``image_count``, else one group of all."""
        return self.groups_and_source[0]

    @property
    def groups_and_source(self) -> tuple[CategoryGroups, str]:
        """``groups`` and what tells them: empty where nothing does."""
        letters = [c.get("frequency") for c in self.categories]
        if all(letter in ("r", "c", "f") for letter in letters):
            names = {"rare": "r", "common": "c", "frequent": "f"}
            members = {name: [c for c, of in enumerate(letters) if of == letter] for name, letter in names.items()}
            return CategoryGroups.explicit(members), "letters of the annotation file"
        if all("image_count" in c for c in self.categories):
            counts = [c["image_count"] for c in self.categories]
            return CategoryGroups.lvis(counts), "image counts of the annotation file"
        return CategoryGroups.explicit({"all": range(self.num_classes)}), ""

    @cached_property
    def sizes(self) -> dict[int, tuple[int, int] | None]:
        """Height and width of every image; None where the file does not say."""
        images = self.coco.load_imgs(self.image_ids.tolist())
        return {i["id"]: (i["height"], i["width"]) if i.get("height") and i.get("width") else None for i in images}

    def check_masks(self) -> None:
        """Look at every mask.

        Raises:
            DataError: A mask is neither polygons nor run lengths, is of another size, or does not fill its image.
        """
        annotations = [a for a in self.coco.load_anns(self.coco.get_ann_ids()) if a.get("segmentation")]
        sizes = [self.sizes[a["image_id"]] for a in annotations]
        if fault := find_fault([a["segmentation"] for a in annotations], sizes):
            place, problem = fault
            raise DataError(
                f"cannot read the mask of annotation {annotations[place]['id']} of {self._source}: {problem}",
                fix="give polygons of three points or more, or run lengths of the image's size",
            )

    def of(self, image_ids: Sequence[int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Images and annotations of some images, as the file has them."""
        ids = list(image_ids)
        return self.coco.load_imgs(ids), self.coco.load_anns(self.coco.get_ann_ids(img_ids=ids))

    @property
    def frequency(self) -> ClassFrequency | None:
        """Counts of the training split, where the categories carry them (LVIS)."""
        if not all("image_count" in c for c in self.categories):
            return None
        counted = all("instance_count" in c for c in self.categories)
        instances = np.array([c["instance_count"] for c in self.categories]) if counted else None
        return ClassFrequency(self.class_names, np.array([c["image_count"] for c in self.categories]), None, instances)

    def _check_references(self, source: object) -> None:
        everyone = self.coco.get_ann_ids()
        for what, ids, key in (
            ("category", self.category_ids, "category_id"),
            ("image", self.image_ids, "image_id"),
        ):
            known = self.coco.get_ann_ids(**{"cat_ids" if what == "category" else "img_ids": ids.tolist()})
            if len(known) != len(everyone):
                lost = self.coco.load_anns([sorted(set(everyone) - set(known))[0]])[0]
                raise DataError(
                    f"annotation {lost['id']} of {source} names {what} {lost[key]}, which the file does not list",
                    fix=f"add the {what} or remove the annotation",
                )


def _readable(path: str | Path) -> str | dict[str, Any]:
    """The file, or its content where it begins with a byte order mark, at which hotcoco stops."""
    with Path(path).open("rb") as file:
        if file.read(3) == codecs.BOM_UTF8:
            return json.loads(Path(path).read_bytes())
    return str(path)


def _is_federated(content: str | Mapping[str, Any]) -> bool:
    """Whether a file or its content has LVIS's keys, with lists that may be empty: hotcoco drops those."""
    if not isinstance(content, str):
        return any(key in image for image in content["images"] for key in _FEDERATED)
    with Path(content).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return re.search(rf'"(?:{"|".join(_FEDERATED)})"\s*:'.encode(), data) is not None


def annotations_of(samples: Iterable[Mapping[str, Any]], class_names: Sequence[str]) -> dict[str, Any]:
    """COCO-style content of detection samples; category ids are the class ids.

    Args:
        samples: Untransformed ``DetectionSample`` dicts.
        class_names: Names of the C classes.
    """
    from hotcoco import mask

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        height, width = sample["image"].shape[-2:]
        identity = int(sample["image_id"])
        images.append({"id": identity, "height": int(height), "width": int(width), "file_name": str(sample["name"])})
        boxes = np.asarray(sample["boxes"], dtype=np.float64).reshape(-1, 4)
        masks = np.asarray(sample["masks"], dtype=np.uint8) if "masks" in sample else None
        for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            record = {
                "id": len(annotations) + 1,
                "image_id": identity,
                "category_id": int(sample["labels"][i]),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": int(sample["crowd"][i]),
            }
            if masks is not None:
                encoded = mask.encode(np.asfortranarray(masks[i]))
                record |= {"segmentation": text_mask(encoded), "area": float(masks[i].sum())}
            annotations.append(record)
    categories = [{"id": c, "name": name} for c, name in enumerate(class_names)]
    return {"images": images, "annotations": annotations, "categories": categories}
