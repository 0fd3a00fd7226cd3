"""Data sets of Hugging Face's ``save_to_disk``, with boxes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from longtail.datasets.base import DetectionSample
from longtail.datasets.box_samples import LABEL_KEYS, BoxFormat, BoxSamples
from longtail.datasets.hf import saved_split
from longtail.errors import DataError


class SavedBoxes(BoxSamples):
    """A Hugging Face data set of boxes on disk, as ``save_to_disk`` writes it.

    Args:
        root: Its folder.
        split: See ``hf.SavedSamples``.
        transform: Applied to the whole sample dict.
        names: Class names; else those of the feature ``category`` or ``labels``.
        val_share: Share of the samples that is "val" where there are no splits.
        box_format: See ``BoxSamples``.
        first_label: See ``BoxSamples``.

    Raises:
        MissingDependencyError: ``datasets`` is not installed.
        DataError: There is no such data set or split, or no class names.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transform: Callable[[DetectionSample], DetectionSample] | None = None,
        *,
        names: Sequence[str] | None = None,
        val_share: float = 0.2,
        box_format: BoxFormat | None = None,
        first_label: int = 0,
    ) -> None:
        root = Path(root).expanduser()
        samples, self.note = saved_split(root, split, val_share)
        names = names or _class_names(samples.features)
        if not names:
            raise DataError(f"{root} does not name its classes", fix="pass names (options of the data set)")
        super().__init__(samples, names, transform, box_format=box_format, first_label=first_label)


def _class_names(feature: Any) -> list[str]:
    """Names of the class labels in a feature of Hugging Face's ``datasets``, however deep."""
    inner = feature if isinstance(feature, Mapping) else getattr(feature, "feature", None)
    if isinstance(inner, Mapping):
        for key in (*(k for k in LABEL_KEYS if k in inner), *(k for k in inner if k not in LABEL_KEYS)):
            if found := _class_names(inner[key]):
                return found
        return []
    return list(getattr(feature, "names", None) or getattr(inner, "names", None) or [])
