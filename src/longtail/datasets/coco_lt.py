"""COCO-LT: images of COCO chosen so that its 80 classes have the long tail of LVIS."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from longtail.annotations.coco_file import CocoFile
from longtail.annotations.read import read_coco_file
from longtail.errors import ConfigError
from longtail.json_files import read_json


@dataclass(frozen=True)
class LongTailSubset:
    """Images chosen from a data set, and the three curves of the paper's Figure 5.

    Args:
        class_names: Names of the C classes.
        image_ids: Ids of the chosen images, ascending.
        source: int64 (C,), instances of each class in the whole data set.
        target: int64 (C,), instances of each class that the alignment asks for.
        result: int64 (C,), instances of each class in the chosen images.
        free: bool (C,), most frequent classes, which are filled last.
    """

    class_names: tuple[str, ...]
    image_ids: np.ndarray
    source: np.ndarray
    target: np.ndarray
    result: np.ndarray
    free: np.ndarray

    def to_dict(self) -> dict:
        """The curves as plain lists."""
        return {
            "class_names": list(self.class_names),
            "images": len(self.image_ids),
            "instances": int(self.result.sum()),
            **{name: getattr(self, name).tolist() for name in ("source", "target", "result", "free")},
        }


def build_coco_lt(
    annotations: str | Path,
    reference: str | Path | Sequence[int] | np.ndarray,
    out: str | Path,
    *,
    seed: int = 0,
    free: int = 10,
    alignment: Literal["quantile", "top"] = "quantile",
) -> LongTailSubset:
    """Choose images so that the classes follow another data set's long tail, and write them as a data set.

    Writes into ``out``: ``train.json`` (the annotations of the chosen images; categories carry ``image_count`` and
    ``instance_count``), ``images.txt`` (their file names) and ``counts.json`` (the curves of Figure 5).

    Args:
        annotations: COCO's ``instances_train2017.json``, or any COCO-style file.
        reference: LVIS's training annotations, or the instance counts of its classes in any order.
        out: Folder to write into.
        seed: Of the choice of images; the same seed gives the same images.
        free: See ``choose_images``.
        alignment: See ``aligned_targets``.

    Raises:
        ConfigError: No image is left to choose.
        DataError: A file cannot be read.

    Source: MEC appendix B; SPEC C2.
    """
    file = read_coco_file(annotations)
    counts = _reference_counts(reference)
    subset = choose_images(file, counts, seed=seed, free=free, alignment=alignment)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    _write(file, subset, folder)
    return subset


def aligned_targets(
    counts: np.ndarray, reference: np.ndarray, alignment: Literal["quantile", "top"] = "quantile"
) -> np.ndarray:
    """Instances that every class should keep: as many as the class of the reference at its rank.

    Args:
        counts: (C,) instances of each class.
        reference: Instances of each class of the reference, in any order.
        alignment: ``quantile`` stretches the C ranks over all classes of the reference, which carries the whole tail
            over; ``top`` takes its C most frequent classes, which for LVIS are all frequent.

    Returns:
        int64 (C,), at most ``counts``, at least 1 where the class occurs.

    Raises:
        ConfigError: The reference has fewer classes than ``top`` needs, or none.
    """
    reference = np.sort(np.asarray(reference, dtype=np.int64))[::-1]
    counts = np.asarray(counts, dtype=np.int64)
    if not len(reference) or (alignment == "top" and len(reference) < len(counts)):
        raise ConfigError(
            f"{len(reference)} reference counts for {len(counts)} classes", fix="give those of all LVIS classes"
        )
    if alignment not in ("quantile", "top"):
        raise ConfigError(f"alignment is {alignment!r}", fix="choose 'quantile' or 'top'")
    ranks = np.arange(len(counts))
    if alignment == "quantile":
        ranks = np.rint(np.linspace(0, len(reference) - 1, len(counts))).astype(np.int64)
    target = np.empty_like(counts)
    target[np.argsort(-counts, kind="stable")] = reference[ranks]
    return np.minimum(np.maximum(target, 1), counts)


def choose_images(
    file: CocoFile,
    reference: np.ndarray,
    *,
    seed: int = 0,
    free: int = 10,
    alignment: Literal["quantile", "top"] = "quantile",
) -> LongTailSubset:
    """Choose whole images so that every class but the free ones has its target, or less than one image more.

    Classes are filled from the rarest target to the most frequent. An image is taken for a class only while it takes
    no other class beyond its target, so what is filled stays filled; where no such image is left, a class keeps less
    than its target. The free classes come along meanwhile without a limit, and are filled last in the same way.

    Args:
        file: The annotations.
        reference: Instances of each class of the reference.
        seed: Of the order in which images are tried.
        free: Number of most frequent classes that are filled last: no image is left out because of them before. They may
            keep less than their target.
        alignment: See ``aligned_targets``.

    Raises:
        ConfigError: No image is chosen: there are no objects.
    """
    source = np.bincount(file.labels[~file.crowd], minlength=file.num_classes)
    target = aligned_targets(source, reference, alignment)
    heeded = np.ones(file.num_classes, dtype=bool)
    heeded[np.argsort(-source, kind="stable")[: max(free, 0)]] = False
    classes, counts, images_of = _contents(file)
    rng = np.random.default_rng(seed)
    result = np.zeros(file.num_classes, dtype=np.int64)
    chosen = np.zeros(len(file.images), dtype=bool)
    for wanted in sorted(range(file.num_classes), key=lambda c: (not heeded[c], target[c], c)):
        guarded = heeded | ~heeded[wanted]
        for image in rng.permutation(images_of[wanted]):
            if result[wanted] >= target[wanted]:
                break
            here, many = classes[image], counts[image]
            over = guarded[here] & (result[here] + many > target[here]) & (here != wanted)
            if not chosen[image] and not over.any():
                chosen[image] = True
                result[here] += many
    if not chosen.any():
        raise ConfigError(f"no image of {file.path} has an object", fix="give the annotations of a training split")
    ids = np.sort(np.array([file.images[i]["id"] for i in np.flatnonzero(chosen)], dtype=np.int64))
    names = file.class_names
    return LongTailSubset(names, ids, source, target, result, ~heeded)


def _contents(file: CocoFile) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Classes of every image, how often each is there, and images of every class; crowd regions left out."""
    keys, many = np.unique(
        file.image_index[~file.crowd] * file.num_classes + file.labels[~file.crowd], return_counts=True
    )
    image, label = np.divmod(keys, file.num_classes)
    cuts = np.searchsorted(image, np.arange(1, len(file.images)))
    by_class = np.argsort(label, kind="stable")
    class_cuts = np.searchsorted(label[by_class], np.arange(1, file.num_classes))
    return np.split(label, cuts), np.split(many, cuts), np.split(image[by_class], class_cuts)


def _reference_counts(reference: str | Path | Sequence[int] | np.ndarray) -> np.ndarray:
    if not isinstance(reference, (str, Path)):
        return np.asarray(reference, dtype=np.int64)
    file = read_coco_file(reference)
    if all("instance_count" in category for category in file.categories):
        return np.array([category["instance_count"] for category in file.categories], dtype=np.int64)
    return np.bincount(file.labels[~file.crowd], minlength=file.num_classes)


def _write(file: CocoFile, subset: LongTailSubset, folder: Path) -> None:
    kept = set(subset.image_ids.tolist())
    content = read_json(file.path, "annotations", "do not change the file meanwhile")
    content["images"] = [image for image in content["images"] if image["id"] in kept]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    shown: dict[int, set[int]] = {}
    for a in content["annotations"]:
        if not a.get("iscrowd", 0):
            shown.setdefault(a["category_id"], set()).add(a["image_id"])
    content["categories"] = [category for category in content["categories"] if category["id"] in file.class_of]
    for category in content["categories"]:
        category["image_count"] = len(shown.get(category["id"], ()))
        category["instance_count"] = int(subset.result[file.class_of[category["id"]]])
    (folder / "train.json").write_text(json.dumps(content))
    names = sorted(str(image.get("file_name") or image["id"]) for image in content["images"])
    (folder / "images.txt").write_text("".join(f"{name}\n" for name in names))
    (folder / "counts.json").write_text(json.dumps(subset.to_dict(), indent=1) + "\n")
