"""Photographs paired with their label images by name."""

import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path

from longtail.errors import DataError
from longtail.folders import by_name, files_by_name, files_in

#: Name, photograph and label image of a sample.
Pair = tuple[str, Path, Path]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".npy"})
LABEL_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
#: Ends of the names of label images that are found without being told.
_KNOWN_ENDS = (
    "_mask", "_masks", "_label", "_labels", "_L", "_seg", "_segmentation", "_gt", "_annotation", "_labelIds",
)  # fmt: skip
_LOSSY = frozenset({".jpg", ".jpeg", ".webp"})


def pair_folders(images: Path, labels: Path, image_suffix: str = "", label_suffix: str | None = "") -> list[Pair]:
    """Images and labels of equal name as (name, image, label), in order of their names.

    Args:
        images: Folder of photographs.
        labels: Folder of label images; the same for photographs and label images side by side.
        image_suffix: End of the photographs' stems that is no part of the name.
        label_suffix: The same of the label images; None finds one that is customary, such as ``_mask``.

    Raises:
        DataError: A folder is missing or empty, or an image has no label, or a label no image.
    """
    if images == labels:
        photos, masks = _side_by_side(images, image_suffix, label_suffix)
    else:
        photos = files_by_name(images, IMAGE_SUFFIXES, "images", image_suffix)
        masks = files_by_name(labels, LABEL_SUFFIXES, "labels", label_suffix or "")
        if label_suffix is None and photos.keys() - masks.keys():
            ends = (_without(masks, end) for end in _KNOWN_ENDS)
            masks = next((found for found in ends if photos.keys() <= found.keys()), masks)
    if not photos or not masks:
        empty, suffix = (labels, label_suffix or "") if photos else (images, image_suffix)
        raise DataError(
            f"no images *{suffix}{{{','.join(sorted(IMAGE_SUFFIXES))}}} in {empty}", fix="check the path and the split"
        )
    _refuse_unpaired(photos, masks, "image", "label", labels)
    _refuse_unpaired(masks, photos, "label", "image", images)
    return [(name, photos[name], masks[name]) for name in photos]


def has_both(folder: Path) -> bool:
    """Whether a folder holds photographs and their label images, by their names."""
    photos, masks = _side_by_side(folder, "", None)
    return bool(photos) and photos.keys() == masks.keys()


def strip_suffix(path: Path) -> Path:
    """A path without the extension of an image, if it has one."""
    return path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES | LABEL_SUFFIXES else path


def _side_by_side(folder: Path, image_suffix: str, label_suffix: str | None) -> tuple[dict[str, Path], dict[str, Path]]:
    """Photographs and label images of one folder: the label images end with a suffix, or the photographs alone are JPEGs."""
    files = files_in(folder, IMAGE_SUFFIXES | LABEL_SUFFIXES)
    for end in _KNOWN_ENDS if label_suffix is None else (label_suffix,) if label_suffix else ():
        masks = [path for path in files if path.stem.endswith(end)]
        photos = [path for path in files if not path.stem.endswith(end)]
        if masks and photos:
            return by_name(photos, folder, "images", image_suffix), by_name(masks, folder, "labels", end)
    photos = [path for path in files if path.suffix.lower() in _LOSSY]
    masks = [path for path in files if path.suffix.lower() not in _LOSSY]
    return by_name(photos, folder, "images", image_suffix), by_name(masks, folder, "labels", label_suffix or "")


def _without(files: Mapping[str, Path], end: str) -> dict[str, Path]:
    return {name.removesuffix(end): path for name, path in files.items() if name.endswith(end)}


def _refuse_unpaired(names: Collection[str], others: Collection[str], what: str, lacks: str, folder: Path) -> None:
    alone = sorted(set(names) - set(others))
    if not alone:
        return
    some = ", ".join(alone[:3]) + (" …" if len(alone) > 3 else "")
    raise DataError(
        f"{len(alone)} {what}{'s' if len(alone) > 1 else ''} without {lacks} in {folder}: {some}",
        fix=_cause(alone[0], others) or f"add the {lacks}s, or take the {what}s away",
    )


def _cause(name: str, others: Collection[str]) -> str:
    """Why a name has no partner, judged by a similar name."""
    plain = {_normal(other): other for other in others}
    near = plain.get(_normal(name))
    if near is None:
        ends = sorted(other for other in others if other.startswith(name))[:1]
        return (
            f"is {ends[0]} its partner? say so with label_suffix or image_suffix (options of the data set)"
            if ends
            else ""
        )
    if unicodedata.normalize("NFC", near) == unicodedata.normalize("NFC", name):
        return f"{near!a} and {name!a} are one text in two Unicode forms (NFC, NFD): rename one, such as with convmv"
    if "\\" in name + near:
        return f"{near} and {name} differ in / and \\: unpack the data on this system again"
    return f"{near} and {name} differ in upper and lower case: rename one"


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().replace("\\", "/")
