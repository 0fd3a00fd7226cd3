"""``ClassFrequency``: how often each class occurs, the fact that everything else starts from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from longtail.errors import ConfigError, DataError

Unit = Literal["pixels", "images", "instances"]
_SCHEMA = "longtail-frequency/1"


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
                    f"{unit} must hold {len(self.class_names)} counts >= 0, one a class; got shape "
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
            raise ConfigError(
                f"this frequency has no {unit}",
                fix=f"count a data set that has {unit}, or choose another unit",
            )
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
    def from_dict(cls, record: dict) -> "ClassFrequency":
        """Inverse of ``to_dict``; further keys of ``to_json`` are taken where present."""

        def listed(unit: str) -> np.ndarray | None:
            return None if record.get(unit) is None else np.asarray(record[unit])

        return cls(
            class_names=tuple(record["class_names"]),
            images=np.asarray(record["images"]),
            pixels=listed("pixels"),
            instances=listed("instances"),
            num_images=record.get("num_images", 0),
            ignored_pixels=record.get("ignored_pixels", 0),
            fingerprint=record.get("fingerprint", ""),
        )

    @classmethod
    def from_json(cls, path: str | Path) -> "ClassFrequency":
        """Read what ``to_json`` wrote.

        Raises:
            DataError: The file is missing, not JSON, or not a frequency file.
        """
        path = Path(path)
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise DataError(
                f"cannot read class frequencies from {path}: {error}", fix="write it with `longtail count`"
            ) from error
        if not isinstance(record, dict) or record.get("schema") != _SCHEMA:
            raise DataError(f"{path} is not a {_SCHEMA} file", fix="write it with `longtail count`")
        try:
            return cls.from_dict(record)
        except (KeyError, TypeError, ConfigError) as error:
            raise DataError(f"{path} is incomplete: {error}", fix="write it with `longtail count`") from error
