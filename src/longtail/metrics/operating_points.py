"""Where to cut the scores of every class: the threshold of its best F1, for detectors that act on what they see."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Float

from longtail.errors import DataError
from longtail.files import write_text
from longtail.json_files import check_kind, read_json
from longtail.metrics.matches import Matches, each_class

#: Scores below it are not drawn by `longtail predict`, unless it is told otherwise.
DEFAULT_THRESHOLD = 0.3
_MISSING: Any = object()


class _ThresholdsFile(TypedDict):
    classes: dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class OperatingPoints:
    """One threshold for every class, and its scores at IoU 0.5.

    Args:
        class_names: Names of the C classes.
        thresholds: float64 (C,): detections with this score or a higher one are kept; NaN for a class that no
            detection finds, of which no threshold can be told.
        precision: float64 (C,), share of the kept detections that are right.
        recall: float64 (C,), share of the objects that are found.
        default_ap: float64 (C,), AP50 of the detections that score ``default`` or more.
        default: One threshold for all classes, as `longtail predict` draws by without others.
    """

    class_names: tuple[str, ...]
    thresholds: Float[np.ndarray, "classes"]
    precision: Float[np.ndarray, "classes"]
    recall: Float[np.ndarray, "classes"]
    default_ap: Float[np.ndarray, "classes"]
    default: float = DEFAULT_THRESHOLD

    @property
    def f1(self) -> Float[np.ndarray, "classes"]:
        """Harmonic mean of precision and recall."""
        return 2 * self.precision * self.recall / (self.precision + self.recall)

    @classmethod
    def best_f1(
        cls, matches: Matches, class_names: tuple[str, ...], default: float = DEFAULT_THRESHOLD
    ) -> "OperatingPoints":
        """The threshold of the best F1 of every class; of equal F1 the highest.

        Detections of equal score are kept or left together.

        Args:
            matches: Detections matched to the objects of their class.
            class_names: Names of the C classes.
            default: One threshold for all classes, of which the AP is told next to it.

        Source: van Rijsbergen, "Information Retrieval" (1979), ch. 7.
        """
        values = np.full((3, len(class_names)), np.nan)
        counted = (matches.ignored & 1) == 0
        for label, here in each_class(matches.labels, matches.scores, matches.positives, counted):
            scores, right = matches.scores[here], (matches.right[here] & 1).cumsum()
            if not len(right) or not right[-1]:
                continue
            last = np.flatnonzero(np.diff(scores, append=-np.inf))  # ends of runs of equal scores
            f1 = 2 * right[last] / (last + 1 + matches.positives[label])
            best = last[f1.argmax()]
            values[:, label] = scores[best], right[best] / (best + 1), right[best] / matches.positives[label]
        surest = matches.at(np.flatnonzero(matches.scores >= default))
        return cls(class_names, values[0], values[1], values[2], surest.class_ap()[:, 0], default)

    def save(self, path: str | Path) -> None:
        """Write thresholds and what they give as JSON, by class name; null where there is none.

        Raises:
            ConfigError: The file cannot be written.
        """
        save_thresholds(self.to_dict(), self.class_names, path)

    def to_dict(self) -> dict[str, list[float | None]]:
        """Value -> its numbers of every class, None where undefined."""
        columns = {
            "threshold": self.thresholds,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "default_ap": self.default_ap,
        }
        return {key: [None if np.isnan(value) else float(value) for value in values] for key, values in columns.items()}


def save_thresholds(
    columns: Mapping[str, Sequence[float | None]], class_names: Sequence[str], path: str | Path
) -> None:
    """Write what ``OperatingPoints.to_dict`` gives, by class name.

    Raises:
        ConfigError: The file cannot be written.
    """
    rows = {n: {key: values[c] for key, values in columns.items()} for c, n in enumerate(class_names)}
    write_text(Path(path), json.dumps({"classes": rows}, indent=1) + "\n")


def read_thresholds(path: str | Path, class_names: Sequence[str]) -> Float[np.ndarray, "classes"]:
    """Thresholds of a file that ``OperatingPoints.save`` wrote, in the order of ``class_names``; NaN for null.

    Args:
        path: JSON object with ``classes``: name -> ``{"threshold": number or null}``.
        class_names: Names of the C classes.

    Raises:
        DataError: The file is not that, or lacks one of the classes.
    """
    fix = "give a file of thresholds by class name, as `longtail score detection --thresholds FILE` writes it"
    content = check_kind(read_json(path, "thresholds", fix), _ThresholdsFile, path, fix)
    values = np.full(len(class_names), np.nan)
    for c, name in enumerate(class_names):
        threshold = content["classes"].get(name, {}).get("threshold", _MISSING)
        if threshold is _MISSING:
            raise DataError(f"{path} has no threshold of class {name!r}", fix=fix)
        values[c] = np.nan if threshold is None else threshold
    return values
