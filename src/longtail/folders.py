"""Walk a folder of data, in the same way for every command and data set."""

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from longtail.errors import DataError

#: Of the archives of macOS, and of the thumbnails of a NAS.
_NO_DATA = frozenset({"__MACOSX", "@eaDir"})


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data: ``.ipynb_checkpoints``, ``._photo.jpg``, ``__MACOSX`` …"""
    return name.startswith(".") or name in _NO_DATA


def matching(folder: Path, *patterns: str) -> list[Path]:
    """Files and folders under a folder that fit patterns of ``Path.glob``, in the order of the patterns and their paths.

    Hidden ones, and what is in a hidden folder, are left out.
    """
    found = (path for pattern in patterns for path in sorted(folder.glob(pattern)))
    return [path for path in found if not any(map(is_hidden, path.relative_to(folder).parts))]


def files_in(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Files under a folder whose names end with one of some suffixes, in the order of their paths.

    Hidden files and folders are left out. Linked folders are followed, unless a link leads back to a folder around it.

    Args:
        folder: Searched with all its sub-folders.
        suffixes: Lower-case suffixes with their dot; the case of the files' does not matter.

    Raises:
        DataError: A folder cannot be read, or a link leads nowhere.
    """
    return sorted(path for path in _walk(folder, ()) if path.suffix.lower() in suffixes)


def files_by_name(folder: Path, suffixes: Collection[str], what: str, end: str = "") -> dict[str, Path]:
    """``files_in`` by their path within the folder, without the end of their stems and the suffix.

    Args:
        folder: See ``files_in``.
        suffixes: See ``files_in``.
        what: Names the files in errors: "images", "labels".
        end: End of the stems of the files that count, e.g. ``_leftImg8bit``.

    Raises:
        DataError: The folder is missing, or two files have one name.
    """
    if not folder.is_dir():
        raise DataError(f"folder of {what} {folder} does not exist", fix="check the path, the split and the layout")
    return by_name(files_in(folder, suffixes), folder, what, end)


def by_name(files: Iterable[Path], folder: Path, what: str, end: str) -> dict[str, Path]:
    """Files under a folder by name, as of ``files_by_name``.

    Raises:
        DataError: Two files have one name.
    """
    found: dict[str, Path] = {}
    for path in files:
        if not path.stem.endswith(end):
            continue
        name = "/".join((*path.parts[len(folder.parts) : -1], path.stem.removesuffix(end)))
        if name in found:
            raise DataError(f"two {what} of one name: {found[name]} and {path}", fix="keep one of them")
        found[name] = path
    return found


def folders_in(folder: Path) -> list[Path]:
    """Folders directly in a folder, linked ones included, in the order of their names; without hidden ones.

    Raises:
        DataError: The folder cannot be read, or a link leads nowhere.
    """
    entries = _entries(folder) if folder.is_dir() else []
    return [Path(entry.path) for entry in entries if entry.is_dir()]


def _walk(folder: Path, around: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Files under a folder; ``around`` holds device and inode of the folders that it lies in."""
    inner = []
    for entry in _entries(folder):
        if entry.is_dir():
            inner.append(Path(entry.path))
        else:
            yield folder / entry.name
    state = folder.stat()
    around = (*around, (state.st_dev, state.st_ino))
    for path in inner:
        state = path.stat()
        if (state.st_dev, state.st_ino) not in around:
            yield from _walk(path, around)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = sorted((e for e in found if not is_hidden(e.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"cannot read folder {folder}: {error.strerror}", fix="check the path and its rights"
        ) from error
    for entry in entries:
        if entry.is_symlink() and not Path(entry.path).exists():
            raise DataError(
                f"link {entry.path} leads to {Path(entry.path).readlink()}, which does not exist",
                fix="restore its target, or remove the link",
            )
    return entries
