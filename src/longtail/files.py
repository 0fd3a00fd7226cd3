"""Write files completely or not at all, with one error where they cannot be written."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from longtail.errors import ConfigError


@contextmanager
def saving(path: str | Path, fix: str = "free some space there, or name another place to write to") -> Iterator[None]:
    """Turn the system's errors of writing into one error.

    Args:
        path: File that is written, as the error names it.
        fix: The way out.

    Raises:
        ConfigError: The disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        # the folder in whose place a file stands, or which is not ours: the system names it
        where = f" ({error.filename})" if error.filename and str(error.filename) != str(path) else ""
        raise ConfigError(f"cannot write {path}: {error.strerror or error}{where}", fix=fix) from error


def replace_file(path: Path, write: Callable[[Path], Any], part: str = ".part") -> None:
    """Write a temporary file next to ``path`` and move it into place once it is complete; on failure the old file stays.

    Args:
        path: The file; its folder is made.
        write: Writes the path that it is given.
        part: Ending of the temporary file's name.
    """
    unfinished = path.with_name(f"{path.name}{part}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(unfinished)
        with unfinished.open("rb") as handle:
            os.fsync(handle.fileno())
        unfinished.replace(path)
    finally:
        if unfinished.exists():  # false where a file stands instead of the folder; unlink would fail
            unfinished.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file, completely or not at all.

    Raises:
        ConfigError: The disk is full, or the folder cannot be written.
    """
    with saving(path):
        replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))


def make_folder(path: Path) -> None:
    """Create a folder and check that it can be written, before a long computation.

    Raises:
        ConfigError: It cannot.
    """
    with saving(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
