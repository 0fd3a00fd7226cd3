"""Splits: how their names are spelled, and train and val of data without splits, parted by the names of the images."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from longtail.errors import ConfigError, DataError

#: Takes every image, whatever its split.
ALL = "all"
_SPELLINGS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


def spellings(split: str | None) -> tuple[str, ...]:
    """A split as data sets spell it, as asked for first: ``val``, ``valid``, ``validation``, ``Val`` …"""
    for names in _SPELLINGS.values():
        if split in names:
            return tuple(dict.fromkeys((split, *names, *(name.capitalize() for name in names))))
    return (split,) if split else ()


def is_split(name: str) -> bool:
    """Whether a name is train, val or test in any spelling."""
    return any(name.lower() in names for names in _SPELLINGS.values())


def split_of(text: str | None) -> str | None:
    """The split that a text names, such as ``val`` of ``annotations/instances_val2017.json``; None for none or several."""
    words = set(re.findall("[a-z]+", (text or "").lower()))
    named = [split for split, names in _SPELLINGS.items() if words & set(names)]
    return named[0] if len(named) == 1 else None


def no_split(source: object, split: str | None, known: Iterable[object]) -> DataError:
    """The error for a split that the data do not have.

    Args:
        source: Names the data.
        split: The split.
        known: What to choose from instead.
    """
    return DataError(f"{source} has no split {split!r}", fix=f"choose one of {', '.join(map(str, known))}")


def in_split(
    names: Sequence[str], split: str | None, source: Path, *, val_share: float = 0.2, split_by: str | None = None
) -> list[bool]:
    """Whether each image is in a split, by the hash of its name.

    An image stays on its side when others come or go, and a larger ``val_share`` only adds images to "val".

    Args:
        names: Of the images.
        split: "train" or "val"; "all" or None takes every image.
        source: Names the data in errors.
        val_share: Share of the images, or of the groups, that is "val".
        split_by: Regular expression whose first group is hashed instead of the name, such as ``video_(\\d+)``: images
            with the same text there, frames of one video, are on the same side.

    Raises:
        ConfigError: ``val_share`` is not in [0, 1], or ``split_by`` is no regular expression.
        DataError: There is no such split, it is empty, or an image has no match of ``split_by``.
    """
    if not 0 <= val_share <= 1:
        raise ConfigError(f"val_share is {val_share}", fix="give a share from 0 to 1, such as 0.2")
    keys = names if split_by is None else group_keys(names, split_by, source)
    if split in (None, ALL):
        return [True] * len(names)
    if split not in ("train", "val"):
        raise DataError(
            f"{source} has no splits, so no split {split!r}",
            fix=f"choose train, val or {ALL}, or part the data yourself",
        )
    kept = [_is_val(key, val_share) == (split == "val") for key in keys]
    if not any(kept):
        groups = f" ({len(set(keys))} groups by {split_by!r})" if split_by else ""
        raise DataError(
            f"by the hash of their names, none of the {len(names)} images of {source}{groups} is {split} "
            f"(val_share {val_share:g})",
            fix="give another val_share (options of the data set), or part the data yourself",
        )
    return kept


def parting_note(source: Path, val_share: float, split_by: str | None) -> str:
    """One line on how the images were divided, for the training log."""
    what = "its name" if split_by is None else f"what '{split_by}' finds in its name"
    return f"{source} has no splits: by the hash of {what}, an image is val ({val_share:.0%}) or train"


def group_keys(names: Sequence[str], split_by: str, source: Path) -> list[str]:
    """Match of the first group of a regular expression, or of all of it, in each name.

    Raises:
        ConfigError: It is no regular expression.
        DataError: A name has no match.
    """
    try:
        pattern = re.compile(split_by)
    except re.error as error:
        raise ConfigError(
            f"split_by {split_by!r} is no regular expression: {error}", fix=r"give one such as 'video_(\d+)'"
        ) from error
    found = [pattern.search(name) for name in names]
    lacking = [name for name, match in zip(names, found, strict=True) if not (match and match[bool(pattern.groups)])]
    if lacking:
        raise DataError(
            f"{len(lacking)} of the {len(names)} images of {source} have no match of split_by {split_by!r}, such as "
            f"{lacking[0]}",
            fix="give a pattern that every name has",
        )
    return [match[bool(pattern.groups)] for match in found if match]


def _is_val(name: str, share: float) -> bool:
    digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2**64
