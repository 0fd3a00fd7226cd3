"""Digest of files, the key under which their counts are cached."""

import hashlib
from collections.abc import Sequence
from pathlib import Path


def fingerprint_of(files: Sequence[Path], *facts: object, times: bool = True) -> str:
    """Digest of names, sizes and modification times of files and of other facts, without reading the files.

    Args:
        files: The files.
        facts: What else counts.
        times: Whether modification times count; a copy of the files may have others.
    """
    digest = hashlib.sha256(repr(facts).encode())
    for path in files:
        stat = path.stat()
        changed = f" {stat.st_mtime_ns}" if times else ""
        digest.update(f"{path.parent.name}/{path.name} {stat.st_size}{changed}\n".encode())
    return digest.hexdigest()
