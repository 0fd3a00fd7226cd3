"""``results.json``: one versioned record of an evaluation, the same for segmentation and detection."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from longtail.errors import DataError

SCHEMA = "longtail-results/1"


@dataclass
class Prediction:
    """Scores of one way to predict: the method itself, a baseline, its oracle, one expert or stage.

    Args:
        overall: Metric -> value in [0, 1]; segmentation: mIoU, mAcc, aAcc; detection: AP, AP50, ….
        groups: Group -> metric -> value.
        per_class: Metric -> C values, None where a metric is undefined for a class.
        extra: Further analyses by name (uniform evaluation, correlation, bias, …).
    """

    overall: dict[str, float | None]
    groups: dict[str, dict[str, float | None]] = field(default_factory=dict)
    per_class: dict[str, list[float | None]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Results:
    """All that an evaluation found, and what it needs to be found again.

    Args:
        task: ``segmentation`` or ``detection``.
        method: Name of the method evaluated; also the key of its own prediction.
        class_names: Names of the C classes.
        groups: Group -> class ids.
        predictions: Name of a way to predict -> its scores. The first is the method's own.
        frequency: ``ClassFrequency.to_dict()`` of the training split, or None.
        data: Name, split, number of images and fingerprint of the evaluated data.
        settings: Resolved configuration of the run.
        seed: Seed of the run, or None.
        environment: Versions and machine, as ``longtail info`` prints them.
    """

    task: Literal["segmentation", "detection"]
    method: str
    class_names: list[str]
    groups: dict[str, list[int]]
    predictions: dict[str, Prediction]
    frequency: dict[str, Any] | None = None
    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    environment: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write the record; an existing file is replaced only once the new one is whole."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"schema": SCHEMA, **without_nan(asdict(self))}
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
        part.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> "Results":
        """Read a record.

        Raises:
            DataError: The file is missing, not JSON, or of another schema.
        """
        path = Path(path)
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise DataError(
                f"cannot read results from {path}: {error}", fix="give a results.json of this library"
            ) from error
        if not isinstance(record, dict) or record.pop("schema", None) != SCHEMA:
            raise DataError(f"{path} is not a {SCHEMA} file", fix="evaluate again with this version")
        predictions = {name: Prediction(**p) for name, p in record.pop("predictions").items()}
        return cls(predictions=predictions, **record)


def without_nan(value: Any) -> Any:
    """Replace every NaN and infinity in nested dicts and lists by None: JSON has neither."""
    if isinstance(value, dict):
        return {str(k): without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
