"""Images that are in two splits, under one path or as copies."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
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
    groups = [(list(train), list(val))]
    for key in (_size, _ends, _whole):  # the later reads more, of fewer files
        groups = [parted for group in groups for parted in _parted(*group, key)]
    return [(train[0], path) for train, val in groups for path in val]


def _parted(
    train: list[Path], val: list[Path], key: Callable[[Path], object]
) -> Iterator[tuple[list[Path], list[Path]]]:
    """Images of equal key, where both splits have one."""
    by_key: dict[object, tuple[list[Path], list[Path]]] = {}
    for place, paths in enumerate((train, val)):
        for path in paths:
            by_key.setdefault(key(path), ([], []))[place].append(path)
    return (group for group in by_key.values() if all(group))


def _size(path: Path) -> int:
    return path.stat().st_size


def _ends(path: Path) -> bytes:
    with path.open("rb") as file:
        digest = hashlib.blake2b(file.read(_READ))
        file.seek(max(0, _size(path) - _READ))
        digest.update(file.read(_READ))
    return digest.digest()


def _whole(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
