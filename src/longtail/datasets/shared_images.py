"""Images that are in two splits, under one path or as copies."""

import filecmp
import hashlib
from collections.abc import Sequence
from pathlib import Path

from longtail.errors import DataError

_READ = 4096  # bytes from either end; most files of one size differ in them


def refuse_shared_images(
    train: Sequence[Path],
    val: Sequence[Path],
    names: tuple[str, str] = ("train", "val"),
    fix: str = "give each split other images ({split} in image_dir and label_dir stands for its name)",
) -> None:
    """Refuse images that are trained on and validated with.

    Only files of one size are read, and only those whose ends agree are compared whole.

    Args:
        train: Image files of the training split.
        val: Image files of the other split.
        names: Names of the splits.
        fix: How to give each split its images.

    Raises:
        DataError: An image is in both, as one file or as copies.
    """
    by_size: dict[int, list[Path]] = {}
    for path in train:
        by_size.setdefault(_size(path), []).append(path)
    ends: dict[int, dict[bytes, Path]] = {}
    shared = []
    for path in val:
        size = _size(path)
        if size not in by_size:
            continue
        if size not in ends:
            ends[size] = {_ends(other, size): other for other in by_size[size]}
        other = ends[size].get(_ends(path, size))
        if other is not None and (other == path or filecmp.cmp(other, path, shallow=False)):
            shared.append((other, path))
    if shared:
        other, path = min(shared)
        how = str(path) if other == path else f"{path}, a copy of {other},"
        raise DataError(
            f"{len(shared)} of the {len(val)} images of {names[1]!r} are training images, {how} one of them",
            fix=f"{fix}; to train without validation, set data.val_split ''",
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error.strerror}", fix="restore the file") from error


def _ends(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            digest = hashlib.blake2b(file.read(_READ))
            file.seek(max(0, size - _READ))
            digest.update(file.read(_READ))
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error.strerror}", fix="restore the file") from error
    return digest.digest()
