"""Data sets of Hugging Face's ``save_to_disk``, with label images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longtail.datasets.base import SegmentationSample
from longtail.datasets.class_files import find_class_file, read_class_file
from longtail.datasets.samples import SegmentationSamples
from longtail.datasets.splits import ALL, in_split, no_split, parting_note, spellings
from longtail.errors import DataError, MissingDependencyError


class SavedSamples(SegmentationSamples):
    """A Hugging Face data set on disk, as ``save_to_disk`` writes it.

    Args:
        root: Its folder.
        split: Name of the split (``valid`` and ``validation`` are "val"); without splits, "train" and "val" part the
            samples by a hash of their numbers. "all" takes all of a data set without splits.
        transform: Applied to the whole sample dict.
        names: Class names; else those of ``classes.json`` or ``classes.txt`` in the folder.
        val_share: Share of the samples that is "val" where there are no splits.
        image: See ``SegmentationSamples``.
        mask: See ``SegmentationSamples``.
        ignore_index: See ``SegmentationSamples``.
        label_map: See ``SegmentationSamples``.
        reduce_zero_label: See ``SegmentationSamples``.

    Raises:
        MissingDependencyError: ``datasets`` is not installed.
        DataError: There is no such data set or split, or no class names.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        transform: Callable[[SegmentationSample], SegmentationSample] | None = None,
        *,
        names: Sequence[str] | None = None,
        val_share: float = 0.2,
        image: str = "image",
        mask: str | None = None,
        ignore_index: int = 255,
        label_map: Mapping[int | str, int] | None = None,
        reduce_zero_label: bool = False,
    ) -> None:
        root = Path(root).expanduser()
        samples, self.note = saved_split(root, split, val_share)
        if names is None:
            path = find_class_file([root])
            if path is None:
                raise DataError(
                    f"{root} has no class names", fix="write classes.txt there, or pass names (options of the data set)"
                )
            names = read_class_file(path).names
        super().__init__(
            samples,
            names,
            transform,
            image=image,
            mask=mask,
            ignore_index=ignore_index,
            label_map=label_map,
            reduce_zero_label=reduce_zero_label,
        )


def saved_split(root: Path, split: str, val_share: float = 0.2) -> tuple[Any, str]:
    """One split of a data set of ``save_to_disk``, and a word on how it was parted.

    Args:
        root: Its folder.
        split: Name of the split.
        val_share: Share of the samples that is "val" where there are no splits.

    Raises:
        MissingDependencyError: ``datasets`` is not installed.
        DataError: There is no such data set or split.
    """
    try:
        from datasets import DatasetDict, load_from_disk
    except ImportError as error:
        raise MissingDependencyError(f"{root} needs datasets", fix="pip install 'longtail[datasets]'") from error
    try:
        saved = load_from_disk(str(root))
    except Exception as error:
        raise DataError(
            f"cannot read {root} as a data set of save_to_disk: {str(error).splitlines()[0]}", fix="check the folder"
        ) from error
    if isinstance(saved, DatasetDict):
        for name in spellings(split):
            if name in saved:
                return saved[name], ""
        raise no_split(root, split, saved)
    kept = in_split([str(i) for i in range(len(saved))], split, root, val_share=val_share)
    if split == ALL:
        return saved, ""
    return saved.select(np.flatnonzero(kept)), parting_note(root, val_share, None)
