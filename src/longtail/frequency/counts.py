"""``ClassFrequency``: how often each class occurs, the fact that everything else starts from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, get_args

import numpy as np

from longtail.errors import ConfigError, DataError
from longtail.json_files import check_kind, read_json

Unit = Literal["pixels", "images", "instances"]
_SCHEMA = "longtail-frequency/1"
_FIX = "write it with `longtail count`"


class _Record(TypedDict):
    class_names: list[str]
    images: list[int]
    pixels: NotRequired[list[int] | None]
    instances: NotRequired[list[int] | None]
    num_images: NotRequired[int]
    ignored_pixels: NotRequired[int]
    fingerprint: NotRequired[str]


@dataclass(frozen=True, eq=False)
class ClassFrequency:
    """Occurrences of each class in one split of a data set.

    Args:
        class_names: Name of each of the C classes, in the order of their ids.
        images: int64 (C,), number of images that show the class.
        pixels: int64 (C,), number of pixels labelled with the class; None where there are no masks.
        instances: int64 (C,), number of annotated objects; None where there are no objects.
        num_images: Number of images counted, those without any label included.
        ignored_pixels: Number of pixels that carry no class; they are in no share.
        fingerprint: Identifies the counted data; equal data give an equal fingerprint.
    """

    class_names: tuple[str, ...]
    images: np.ndarray
    pixels: np.ndarray | None = None
    instances: np.ndarray | None = None
    num_images: int = 0
    ignored_pixels: int = 0
    fingerprint: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        for unit in ("images", "pixels", "instances"):
            value = getattr(self, unit)
            if value is None:
                continue
            counts = np.array(value, dtype=np.int64)  # a copy: it is locked below
            if counts.shape != (len(self.class_names),) or (counts < 0).any():
                raise ConfigError(
                    f"{unit} must hold {len(self.class_names)} counts >= 0, one per class; got shape "
                    f"{counts.shape}, smallest {counts.min(initial=0)}",
                    fix="pass one non-negative integer for each class name",
                )
            counts.setflags(write=False)
            object.__setattr__(self, unit, counts)

    @property
    def num_classes(self) -> int:
        """Number of classes, C."""
        return len(self.class_names)

    def counts(self, unit: Unit = "pixels") -> np.ndarray:
        """Counts of every class, int64 (C,).

        Raises:
            ConfigError: The unit was not counted.
        """
        value = getattr(self, unit)
        if value is None:
            raise ConfigError(f"this frequency has no {unit}", fix="count other data, or choose another unit")
        return value

    def share(self, unit: Unit = "pixels") -> np.ndarray:
        """Counts divided by their sum, float64 (C,).

        For pixels this is F(j) of MEDOE: the share of the *labelled* training pixels.

        Source: MEDOE §A.2; SPEC finding 1.
        """
        counts = self.counts(unit)
        total = counts.sum()
        if total == 0:
            raise DataError(f"no {unit} of any class were counted", fix="check the label files and the class ids")
        return counts / total

    def in_order_of(self, names: Sequence[str], whose: str) -> "ClassFrequency":
        """These counts in the order of other class ids; classes are matched by name.

        Args:
            names: Class names in the order wanted.
            whose: Whose names they are, for the error.

        Raises:
            ConfigError: The names are not those that were counted.
        """
        names = tuple(names)
        if names == self.class_names:
            return self
        own = set(self.class_names)
        if own != set(names) or len(own) != len(names) or len(own) != self.num_classes:
            unlike = [
                f"{title} {', '.join(map(repr, only[:3]))}{' …' if len(only) > 3 else ''}"
                for title, only in (
                    ("counted only:", [name for name in self.class_names if name not in names]),
                    (f"only of {whose}:", [name for name in names if name not in own]),
                )
                if only
            ]
            raise ConfigError(
                f"the frequency counts {self.num_classes} classes, {whose} has {len(names)}; "
                f"{', '.join(unlike) or 'a name is there twice'}",
                fix="count the training split of the same data set with `longtail count`, its classes named alike",
            )
        order = [self.class_names.index(name) for name in names]
        counts: dict[str, Any] = {
            unit: None if (c := getattr(self, unit)) is None else c[order] for unit in get_args(Unit)
        }
        return replace(self, class_names=names, **counts)

    def to_json(self, path: str | Path) -> None:
        """Write the counts as a JSON file."""
        record = {
            "schema": _SCHEMA,
            "ignored_pixels": self.ignored_pixels,
            "fingerprint": self.fingerprint,
            **self.to_dict(),
        }
        Path(path).write_text(json.dumps(record, indent=1) + "\n")

    def to_dict(self) -> dict:
        """Counts as plain numbers and lists, as ``to_json`` and ``results.json`` hold them."""
        listed = {
            unit: None if (c := getattr(self, unit)) is None else c.tolist()
            for unit in ("images", "pixels", "instances")
        }
        return {"class_names": list(self.class_names), **listed, "num_images": self.num_images}

    @classmethod
    def from_dict(cls, record: dict, source: object = "the frequency") -> "ClassFrequency":
        """Inverse of ``to_dict``; other keys of ``to_json`` are read where present.

        Args:
            record: Plain values.
            source: File that they are of, for the error.

        Raises:
            DataError: A key is missing, or a value is of another type.
        """
        check_kind(record, _Record, source, _FIX)
        names = record["class_names"]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{source} counts the class {twice!r} twice", fix=_FIX)
        counts = {unit: record.get(unit) for unit in get_args(Unit)}
        for unit, listed in counts.items():
            if listed is not None and (len(listed) != len(names) or min(listed, default=0) < 0 or sum(listed) >= 2**63):
                raise DataError(f"{source}: {unit} are not {len(names)} counts of 0 or more", fix=_FIX)
        return cls(
            class_names=tuple(names),
            num_images=record.get("num_images", 0),
            ignored_pixels=record.get("ignored_pixels", 0),
            fingerprint=record.get("fingerprint", ""),
            **{unit: None if c is None else np.asarray(c, dtype=np.int64) for unit, c in counts.items()},  # type: ignore[arg-type]
        )

    @classmethod
    def from_json(cls, path: str | Path) -> "ClassFrequency":
        """Read what ``to_json`` wrote.

        Raises:
            DataError: The file is missing, not JSON, or not a frequency file.
        """
        record = read_json(path, "class frequencies", _FIX)
        if not isinstance(record, dict) or record.get("schema") != _SCHEMA:
            raise DataError(f"{path} is not a {_SCHEMA} file", fix=_FIX)
        return cls.from_dict(record, path)
