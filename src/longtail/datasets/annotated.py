"""Common parts of the readers of detection layouts: the files of a split, the place of its images, their objects."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from longtail.annotations.checks import MAX_ID
from longtail.annotations.coco_file import CocoFile
from longtail.annotations.read import annotation_table
from longtail.datasets.pairing import IMAGE_SUFFIXES
from longtail.datasets.splits import spellings, split_of
from longtail.errors import DataError
from longtail.folders import files_in


@dataclass(frozen=True)
class Annotated:
    """Annotations of a split.

    Args:
        table: The annotations.
        folders: Folders that the names of the images may be relative to, the likeliest first.
        has_splits: False where the annotations are of all images, and there are no splits.
        note: Remark on how they were read, for the training log.
    """

    table: CocoFile
    folders: Sequence[Path]
    has_splits: bool = True
    note: str = ""


def choose_file(files: Iterable[Path], root: Path, split: str | None, what: str) -> tuple[Path, bool] | None:
    """The file of a split, and whether the data have splits; None where there are no files.

    Args:
        files: Files that could be it.
        root: Folder of the data set.
        split: The split; None or "all" where there should be one file for all images.
        what: Names the files in errors.

    Raises:
        DataError: There are files, but none or more than one of this split.
    """
    of = {file: split_of(file.relative_to(root).as_posix()) for file in files}
    mine = [file for file, named in of.items() if (named in spellings(split) if split else named is None)]
    whole = [file for file, named in of.items() if named is None]
    found = mine or (whole if len(whole) == len(of) else [])
    if not of:
        return None
    if not found:
        names = sorted({name for name in of.values() if name})
        raise DataError(
            f"{root} has no {what} of split {split!r}, but of {', '.join(names)}",
            fix=f"choose one of these, or name the file with annotations=… (such as {min(of).relative_to(root)})",
        )
    if len(found) > 1:
        listed = ", ".join(str(file.relative_to(root)) for file in sorted(found)[:4])
        raise DataError(f"{root} has several {what} for split {split!r}: {listed}", fix="name one with annotations=…")
    return found[0], bool(mine)


def place_images(names: Sequence[str], folders: Sequence[Path], root: Path) -> list[Path]:
    """File of every image.

    Names are relative to the first folder that holds the first image. Where no folder does, each image is the file
    under ``root`` of that name whose folders have the longest end in common with it (names may be of another machine),
    of several the one in the likeliest folder.

    Args:
        names: Of the images, as the annotations have them; the suffix may be missing.
        folders: Folders that they may be relative to; an image that is found nowhere is expected in the first.
        root: Folder that holds all images.

    Raises:
        DataError: Two files fit a name equally well, or a name is none that a file can have.
    """
    if wrong := next((name for name in names if "\0" in name), None):
        raise DataError(f"an image is named {wrong!r}", fix="correct the name of its file")
    for folder in folders:
        if names and (folder / names[0]).is_file():
            return [folder / name for name in names]
    by_name: dict[str, list[Path]] = {}
    for file in files_in(root, IMAGE_SUFFIXES) if root.is_dir() else ():
        for key in (file.name, file.stem):
            by_name.setdefault(_plain(key)[-1], []).append(file)
    return [_fitting(name, by_name, folders) or folders[0] / name for name in names]


def coco_table(
    source: Path,
    root: Path,
    images: Sequence[Path],
    sizes: Sequence[tuple[int, int]],
    names: Sequence[str],
    objects: Iterable[Mapping[str, Any]],
) -> CocoFile:
    """Annotations of a layout without ids, as those of a COCO-style file.

    File names that are numbers are the ids of the images, as in COCO. Others have the hash of their path in the data set:
    an image has the same id in every split and on every machine, and no one's count from 0 or 1 passes for it.

    Args:
        source: File or folder that they come from, for errors.
        root: Folder of the data set: names of images are relative to it, so that they are the same on every machine.
        images: File of every image.
        sizes: (h, w) of every image.
        names: Class names in the order of their ids.
        objects: COCO-style records, with the place of the image as ``image_id`` and the class id as ``category_id``.

    Raises:
        DataError: An image is there twice; or see ``read_coco_file``.
    """
    files = [file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file) for file in images]
    if twice := [name for name, count in Counter(files).items() if count > 1]:
        raise DataError(f"image {twice[0]} of {root} is listed twice", fix="list every image once")
    ids = _ids_of_names(files)
    content = {
        "images": [
            {"id": identity, "file_name": file, "height": height, "width": width}
            for identity, file, (height, width) in zip(ids, files, sizes, strict=True)
        ],
        "annotations": [
            {"id": place, **record, "image_id": ids[record["image_id"]]} for place, record in enumerate(objects)
        ],
        "categories": [{"id": place, "name": name} for place, name in enumerate(names)],
    }
    return annotation_table(content, source, ids_of_names=True)


def _ids_of_names(names: Sequence[str]) -> list[int]:
    stems = [PurePosixPath(name).stem for name in names]
    ids = [int(stem) for stem in stems if stem.isascii() and stem.isdigit()]
    if len(set(ids)) == len(names) and max(ids, default=0) <= MAX_ID:
        return ids
    digests = [hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest() for name in names]
    return [int.from_bytes(digest, "little") & MAX_ID for digest in digests]


def _fitting(name: str, by_name: dict[str, list[Path]], folders: Sequence[Path]) -> Path | None:
    parts = _plain(name)
    files = by_name.get(parts[-1], []) if parts else []
    if len(files) < 2:
        return files[0] if files else None

    def fit(file: Path) -> tuple[int, int]:
        """Folders in common, and minus the place of the folder that the file is in."""
        place = next((i for i, folder in enumerate(folders) if file.is_relative_to(folder)), len(folders))
        return _common_end(parts[:-1], _plain(file.parent.as_posix())), -place

    fits = [fit(file) for file in files]
    best = [file for file, of in zip(files, fits, strict=True) if of == max(fits)]
    if len(best) > 1:
        raise DataError(
            f"image {name!r} may be {best[0]} or {best[1]}", fix="name the folder that it is relative to with images=…"
        )
    return best[0]


def _plain(name: str) -> tuple[str, ...]:
    """Parts of a path, with the separators of Windows and decomposed letters as others write them."""
    return PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/")).parts


def _common_end(first: Sequence[str], second: Sequence[str]) -> int:
    length = 0
    for a, b in zip(reversed(first), reversed(second), strict=False):
        if a != b:
            break
        length += 1
    return length
