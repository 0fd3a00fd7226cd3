"""``score_label_folders``: score anyone's prediction PNGs by class and group, without a model."""

import hashlib
import platform
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from longtail.classes_file import ClassesFile, distinct_names, read_classes_file
from longtail.errors import ConfigError, DataError
from longtail.folders import files_by_name
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.frequency.absent_classes import absent_classes
from longtail.frequency.count_pixels import num_cores
from longtail.frequency.label_format import PLAIN, LabelFormat
from longtail.frequency.label_image import class_ids, label_values, open_label
from longtail.metrics.by_group import segmentation_prediction
from longtail.metrics.label_bands import BandCounts, count_bands
from longtail.metrics.label_diagnosis import LabelDiagnosis
from longtail.metrics.label_regions import Region, wrong_regions
from longtail.metrics.results import Results
from longtail.metrics.segmentation import confusion_matrix
from longtail.progress import with_progress
from longtail.version import __version__

#: Formats that keep class ids as they are; JPEG does not.
LABEL_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp"})
_BYTE = 256
#: ``settings["classes_from"]`` where nothing but the largest value told the number of classes.
FROM_VALUES = "values in the files"
_FROM_SCORED = "the labels scored (no training frequency given)"

Groups = CategoryGroups | Mapping[str, Sequence[int]] | Callable[[ClassFrequency], CategoryGroups]


def score_label_folders(
    labels: str | Path | Mapping[str, Path],
    predictions: str | Path,
    *,
    classes: int | Sequence[str] | str | Path | None = None,
    frequency: ClassFrequency | str | Path | None = None,
    groups: Groups | None = None,
    ignore_index: int | None = None,
    label_format: LabelFormat = PLAIN,
    classes_from: str = "argument",
    label_suffix: str = "",
    prediction_suffix: str = "",
    name: str | None = None,
    workers: int | None = None,
    progress: bool = True,
    looked_at: Callable[[LabelDiagnosis, Sequence[str]], None] | None = None,
) -> Results:
    """Score a folder of predicted label images against the true ones.

    Files are matched by their path within the folder without extension, sub-folders included. Both are
    single-channel images of class ids (PNG, TIFF or BMP; 8 or 16 bits, or palette indices).

    Args:
        labels: Folder of the true label images, or name -> file, as a data set has them.
        predictions: Folder of the predicted ones; more files than labels are fine.
        classes: Class names, their number, or a ``classes.json`` / ``classes.txt``. None takes such a file in the
            labels' folder or up to two above it, else the names of ``frequency``, else as many classes as the files
            use; ``settings["classes_from"]`` of the result names the source.
        frequency: Counts of the *training* split (what ``longtail count`` writes), matched by the names of the classes:
            groups by its pixel shares (>= 1 %, 0.1-1 %, < 0.1 %), and the correlation with accuracy.
        groups: The groups themselves, or what makes them of the counts: those of ``frequency``, else of the labels
            scored, whose shares of pixels tell them where nothing is given; ``settings["groups_from"]`` of the result
            says which it was.
        ignore_index: Label value of pixels that do not count, whatever is predicted there. None takes that of the
            ``classes.json``, else 255.
        label_format: Meaning of the values or colours of labels (not predictions), as data sets have it, such as
            ``PLAIN.mapped(150, 255, reduce_zero_label=True)``; needs the classes.
        classes_from: What the names in ``classes`` were read from, for ``settings["classes_from"]``.
        label_suffix: End of the label stems that is no part of the name, e.g. ``_gtFine_labelTrainIds``; files
            without it are left out.
        prediction_suffix: The same of the predictions, e.g. ``_leftImg8bit``.
        name: Name of the predictions; by default that of their folder.
        workers: Threads (decoding and counting run outside Python's lock); None takes all cores.
        progress: Show a progress bar on stderr if it is a terminal.
        looked_at: Is given the regions of wrong pixels and the names of the classes, for pictures of them.

    Returns:
        Results with one prediction; ``save`` writes them as ``results.json``.

    Raises:
        DataError: A prediction is missing, of another size, has colours for ids, or holds a value that is no class;
            the file is named.
        ConfigError: Groups, classes and frequency do not fit together.
    """
    predictions = Path(predictions)
    if isinstance(frequency, (str, Path)):
        frequency = ClassFrequency.from_json(frequency)
    folder = "the data set" if isinstance(labels, Mapping) else str(labels)
    known, names_from = _class_names(
        classes, frequency, None if isinstance(labels, Mapping) else Path(labels), classes_from
    )
    names = None if known is None else known.names
    if ignore_index is None:
        ignore_index = 255 if known is None or known.ignore_index is None else known.ignore_index
    if frequency is not None and names is not None:
        frequency = frequency.in_order_of(names, "the labels")
    if names is None and label_format is not PLAIN:
        raise ConfigError("a label format without classes", fix="pass classes")
    truth = labels if isinstance(labels, Mapping) else _files(Path(labels), label_suffix)
    pairs = _pairs(truth, _files(predictions, prediction_suffix), folder, predictions)
    rule = _Rule(names, ignore_index, label_format, looked_at is not None)
    confusion, ignored, fingerprint, diagnosis = _count(pairs, rule, workers, progress)
    if names is None:
        names = tuple(f"class_{i}" for i in range(len(confusion)))
    doubt = ""
    if label_format.table is None:
        pixels = confusion.sum(1).numpy()
        shown = ClassFrequency(tuple(names), np.zeros_like(pixels), pixels, ignored_pixels=ignored)
        doubt = absent_classes(shown, ignore_index, folder)
    chosen, groups_from = _groups(groups, frequency, names, confusion)
    method = name or predictions.resolve().name
    scores = segmentation_prediction(confusion, chosen, frequency)
    if diagnosis is not None:
        diagnosis.complete(scores, confusion, chosen)
        if looked_at is not None:
            looked_at(diagnosis, names)
    return Results(
        task="segmentation",
        method=method,
        class_names=list(names),
        groups=chosen.to_dict(),
        predictions={method: scores},
        images={} if diagnosis is None else {method: diagnosis.images},
        frequency=None if frequency is None else frequency.to_dict(),
        data={"name": folder, "images": len(pairs), "fingerprint": fingerprint},
        settings={
            "labels": folder,
            "predictions": str(predictions),
            "classes_from": names_from,
            "groups_from": groups_from,
            "ignore_index": ignore_index,
            **({"doubt": doubt} if doubt else {}),
        },
        environment={
            "longtail": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "platform": platform.platform(),
        },
    )


class _Pair(NamedTuple):
    name: str
    label: Path
    prediction: Path


@dataclass(frozen=True)
class _Rule:
    """How stored values are read; no names of classes mean: as many as the files use."""

    names: tuple[str, ...] | None
    ignore_index: int
    format: LabelFormat = PLAIN
    regions: bool = False  # whether regions of wrong pixels are kept

    @property
    def num_classes(self) -> int | None:
        return None if self.names is None else len(self.names)

    def __post_init__(self) -> None:
        # a class may be left out on purpose, but not by a default that meant "no class"
        if self.num_classes is not None and self.ignore_index == 255 < self.num_classes:
            raise ConfigError(
                f"ignore_index 255 is also one of the {self.num_classes} classes",
                fix="store unlabelled pixels as another value, e.g. 65535 in 16-bit PNGs, and pass it as ignore_index",
            )

    def count(self, pair: _Pair) -> "_Counted":
        """Count one image."""
        truth, prediction = self._truth(pair.label), label_values(open_label(pair.prediction))
        if self.num_classes is None and (truth.dtype != np.uint8 or prediction.dtype != np.uint8):
            wide = pair.label if truth.dtype != np.uint8 else pair.prediction
            raise DataError(f"{wide} has more than 8 bits and the classes are not known", fix="pass classes")
        try:
            matrix = confusion_matrix(_tensor(prediction), _tensor(truth), self.num_classes or _BYTE, self.ignore_index)
            if self.num_classes is None and 0 <= self.ignore_index < _BYTE and matrix[:, self.ignore_index].any():
                raise DataError(
                    f"prediction holds {self.ignore_index}, the ignored value, at labelled pixels",
                    fix="predict a class everywhere, or pass classes",
                )
        except DataError as error:
            raise DataError(f"{error.problem} ({pair.prediction} against {pair.label})", fix=error.fix) from error
        bands = (
            None if self.num_classes is None else count_bands(prediction, truth, self.num_classes, self.ignore_index)
        )
        regions = wrong_regions(pair.name, prediction, truth, self.ignore_index) if self.regions else []
        return _Counted(matrix, bands, regions, truth.size - int(matrix.sum()), zlib.crc32(truth.tobytes()))

    def _truth(self, path: Path) -> np.ndarray:
        if self.format is PLAIN or self.names is None:
            return label_values(open_label(path))
        narrow = self.ignore_index < _BYTE >= len(self.names)
        return class_ids(path, self.names, self.ignore_index, self.format, np.uint8 if narrow else np.int32)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values if values.flags.writeable else values.copy())


class _Counted(NamedTuple):
    """Confusion matrix of one image, its bands (where the classes are known), pixels without class, checksum of labels."""

    matrix: Tensor
    bands: BandCounts | None
    regions: list[Region]
    without_class: int
    checksum: int


def _count(
    pairs: Sequence[_Pair], rule: _Rule, workers: int | None, progress: bool
) -> tuple[Tensor, int, str, LabelDiagnosis | None]:
    """Confusion matrix of all images, their pixels without class, fingerprint of their labels, where pixels go."""
    size = rule.num_classes or _BYTE
    total = torch.zeros(size, size, dtype=torch.int64)
    ignored = 0
    diagnosis = None if rule.num_classes is None else LabelDiagnosis(size, rule.ignore_index)
    digest = hashlib.sha256(repr((rule.ignore_index, rule.format.facts())).encode())
    workers = max(1, workers if workers is not None else num_cores())
    with ThreadPoolExecutor(workers) as pool:
        try:
            # some pairs at a time, so that few matrices wait
            chunks = (pairs[start : start + 8 * workers] for start in range(0, len(pairs), 8 * workers))
            counted = (found for chunk in chunks for found in pool.map(rule.count, chunk))
            shown = with_progress(counted, len(pairs), "scoring", shown=progress)
            for pair, found in zip(pairs, shown, strict=True):
                total += found.matrix
                ignored += found.without_class
                digest.update(f"{pair.name} {found.checksum}\n".encode())
                if diagnosis is not None and found.bands is not None:
                    diagnosis.add(pair.name, found.matrix, found.bands, found.regions)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if rule.num_classes is None:
        used = torch.nonzero(total.sum(0) + total.sum(1))
        if not len(used):
            raise DataError("no pixel of any image is labelled", fix="check ignore_index and the label files")
        total = total[: used.max() + 1, : used.max() + 1]
    return total, ignored, digest.hexdigest(), diagnosis


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    """Label images under a folder by their path within it, without suffix and extension."""
    found = files_by_name(folder, LABEL_SUFFIXES, "label images", suffix)
    if not found:
        raise DataError(
            f"no label images *{suffix}{{{','.join(sorted(LABEL_SUFFIXES))}}} in {folder}",
            fix="give the folder that holds the label images; JPEG cannot hold class ids",
        )
    return found


def _pairs(truth: Mapping[str, Path], found: Mapping[str, Path], labels: str, predictions: Path) -> list[_Pair]:
    missing = [key for key in truth if key not in found]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(truth)} labels have no prediction in {predictions}, the first is "
            f"{truth[missing[0]]}",
            fix=f"predict every image, and name predictions as the labels in {labels} (extensions may differ; "
            "label_suffix and prediction_suffix strip what else does)",
        )
    return [_Pair(key, path, found[key]) for key, path in truth.items()]


def _class_names(
    classes: int | Sequence[str] | str | Path | None,
    frequency: ClassFrequency | None,
    labels: Path | None,
    source: str,
) -> tuple[ClassesFile | None, str]:
    """The classes (None where only the files can tell) and their source."""
    if isinstance(classes, (str, Path)):
        return read_classes_file(classes), str(classes)
    if isinstance(classes, int):
        if classes < 1:
            raise ConfigError(f"classes is {classes}", fix="give at least one class")
        if frequency is None:
            return ClassesFile(tuple(f"class_{i}" for i in range(classes))), "argument"
        if frequency.num_classes != classes:
            raise ConfigError(
                f"the frequency counts {frequency.num_classes} classes, the labels have {classes}",
                fix="give the counts of the same data set's training split",
            )
        return ClassesFile(frequency.class_names), "frequency"
    if classes is not None:
        return ClassesFile(distinct_names(classes, "classes")), source
    for folder in () if labels is None else (labels, *labels.absolute().parents[:2]):
        for path in (folder / "classes.json", folder / "classes.txt"):
            if path.is_file():
                return read_classes_file(path), str(path)
    if frequency is not None:
        return ClassesFile(frequency.class_names), "frequency"
    return None, FROM_VALUES


def _groups(
    groups: Groups | None, frequency: ClassFrequency | None, names: Sequence[str], confusion: Tensor
) -> tuple[CategoryGroups, str]:
    """The groups, and their source."""
    pixels = confusion.sum(1).numpy()
    scored = ClassFrequency(class_names=tuple(names), images=np.zeros_like(pixels), pixels=pixels)
    if callable(groups):
        return groups(frequency or scored), _FROM_SCORED if frequency is None else "frequency (groups as asked for)"
    if groups is not None:
        chosen = groups if isinstance(groups, CategoryGroups) else CategoryGroups.explicit(groups)
        if chosen.num_classes != len(names):
            raise ConfigError(
                f"groups of {chosen.num_classes} classes for labels of {len(names)}",
                fix="list each class id 0 … C-1 in exactly one group",
            )
        return chosen, "argument"
    if frequency is not None:
        return CategoryGroups.by_share(frequency), "frequency (shares of the training pixels)"
    return CategoryGroups.by_share(scored), _FROM_SCORED
