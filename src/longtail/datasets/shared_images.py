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
    try:
        shared = _shared(train, val)
    except OSError as error:
        raise DataError(f"cannot read image {error.filename}: {error.strerror}", fix="restore the file") from error
    if shared:
        other, path = min(shared)
        how = str(path) if other == path else f"{path}, a copy of {other},"
        raise DataError(
            f"{len(shared)} of the {len(val)} images of {names[1]!r} are training images, {how} one of them",
            fix=f"{fix}; to train without validation, set data.val_split ''",
        )


def _shared(train: Sequence[Path], val: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pairs of a training image and one of the other split that are the same file, or copies."""
    by_size: dict[int, list[Path]] = {}
    for path in train:
        by_size.setdefault(path.stat().st_size, []).append(path)
    ends: dict[int, dict[bytes, Path]] = {}
    shared = []
    for path in val:
        size = path.stat().st_size
        if size not in by_size:
            continue
        if size not in ends:
            ends[size] = {_ends(other, size): other for other in by_size[size]}
        other = ends[size].get(_ends(path, size))
        if other is not None and (other == path or filecmp.cmp(other, path, shallow=False)):
            shared.append((other, path))
    return shared


def _ends(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        digest = hashlib.blake2b(file.read(_READ))
        file.seek(max(0, size - _READ))
        digest.update(file.read(_READ))
    return digest.digest()
