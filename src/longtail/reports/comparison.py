"""``Comparison``: the evaluations that a report shows side by side."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from longtail.diagnosis.failure_file import Failure, load_failures
from longtail.errors import DataError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.metrics.image_scores import ImageScores, load_image_scores
from longtail.metrics.results import Prediction, Results, images_file
from longtail.reports.certainty import Certainty, certainty

Role = Literal["baseline", "method", "ensemble", "oracle", "expert"]

_NAMES = {
    "baseline": "Baseline",
    "medoe": "MEDOE",
    "med": "MED",
    "mcn": "MCN",
    "mec": "MEC",
    "cascade": "Cascade",
    "cascade_rcnn": "Cascade R-CNN",
    "htc": "HTC",
    "model_ensemble": "Model ensemble",
    "oracle": "Oracle",
    "mean": "Mean",
    "argmax": "Argmax",
    "softmax_threshold": "Softmax threshold",
    "group_average": "Group average",
    "nested_chain": "Nested chain",
    "half_adjusted": "Half a logit adjustment",
}
_AVERAGE_PRECISIONS = ("AP", "mask_AP", "AP_fixed", "mask_AP_fixed")
_NUMBERED = re.compile(r"(expert|stage)_(\d+)")


@dataclass(frozen=True)
class Run:
    """One evaluation to show.

    Args:
        label: What the report calls it; no two runs share one.
        results: Its results.
        source: The ``results.json`` read.
        drawn: Class name -> pictures of its failures, of results that were not read from a file: what lies next to
            ``source`` is then of others. None for results that were.
    """

    label: str
    results: Results
    source: Path
    drawn: Mapping[str, Sequence[Failure]] | None = field(default=None, repr=False)

    @property
    def failures(self) -> Mapping[str, Sequence[Failure]]:
        """Class name -> pictures of its failures and of its training examples.

        Raises:
            DataError: Their file cannot be read.
        """
        return load_failures(self.source.parent / "pictures") if self.drawn is None else self.drawn

    @cached_property
    def images(self) -> dict[str, ImageScores]:
        """Name of a way to predict -> its scores image by image, where they were kept.

        Raises:
            DataError: Their file cannot be read.
        """
        file = images_file(self.source)
        if self.drawn is not None or self.results.images:
            return self.results.images
        return load_image_scores(file) if file.is_file() else {}

    @property
    def pictures(self) -> Path | None:
        """Folder of qualitative pictures, None where the run has none."""
        folder = self.source.parent / "pictures"
        return folder if self.drawn is None and (folder / "index.json").is_file() else None


@dataclass(frozen=True)
class Entry:
    """One way to predict, of one run.

    Args:
        label: What the report calls it.
        name: Its key in ``Results.predictions``.
        role: ``baseline`` is the first of several runs; ``expert`` also means a stage of a cascade.
        prediction: Its scores.
        run: The run that it belongs to.
    """

    label: str
    name: str
    role: Role
    prediction: Prediction
    run: Run

    def score(self, metric: str, group: str = "all", *, uniform: bool = False) -> float:
        """A score over all classes or of a group, NaN where undefined; ``uniform``: on the uniform test set."""
        scores = self.prediction.extra.get("uniform") or {} if uniform else vars(self.prediction)
        of = scores.get("overall", {}) if group == "all" else scores.get("groups", {}).get(group, {})
        return np.nan if of.get(metric) is None else of[metric]


def results_file(source: str | Path) -> Path:
    """``results.json`` of a run folder; a file as it is.

    Raises:
        DataError: The run has no results yet.
    """
    path = Path(source)
    if not path.is_dir():
        return path
    if not (path / "results.json").is_file():
        is_run = (path / "config.yaml").is_file()
        raise DataError(
            f"there is no results.json in {path}",
            fix=f"score the run first: longtail evaluate {path}" if is_run else "give a run folder or a results.json",
        )
    return path / "results.json"


class Comparison:
    """Runs on the same classes and groups; the first of several is the baseline, the last the method in focus.

    Args:
        runs: At least one.
        draws: Number of draws of the images for intervals, and their seed.

    Raises:
        DataError: The runs differ in task, classes or groups.
    """

    def __init__(self, runs: Sequence[Run], draws: tuple[int, int] = (2_000, 0)) -> None:
        self.draws = draws
        if not runs:
            raise DataError("no results to report", fix="give a run folder or a results.json")
        self.runs = tuple(runs)
        first = runs[0]
        for run in runs[1:]:
            for what in ("task", "class_names", "groups"):
                if getattr(run.results, what) != getattr(first.results, what):
                    raise DataError(
                        f"{run.source} and {first.source} differ in {what.replace('_', ' ')}",
                        fix="compare runs on the same data, evaluated with the same groups",
                    )

    @classmethod
    def load(cls, sources: Sequence[str | Path], draws: tuple[int, int] = (2_000, 0)) -> "Comparison":
        """Read run folders or ``results.json`` files, the baseline first.

        Raises:
            DataError: A file is missing or unreadable, or the runs cannot be compared.
        """
        return cls(labelled([(file, Results.load(file)) for file in map(results_file, sources)]), draws)

    @classmethod
    def by_task(cls, sources: Sequence[str | Path]) -> list["Comparison"]:
        """As ``load``: one comparison for each task, in the order in which tasks and runs come."""
        tasks: dict[str, list[tuple[Path, Results]]] = {}
        for file in map(results_file, sources):
            results = Results.load(file)
            tasks.setdefault(results.task, []).append((file, results))
        return [cls(labelled(read)) for read in tasks.values() or [[]]]

    @property
    def focus(self) -> Run:
        """The run that the report is about: the last one."""
        return self.runs[-1]

    @property
    def task(self) -> str:
        """``segmentation`` or ``detection``."""
        return self.focus.results.task

    @property
    def class_names(self) -> list[str]:
        """Names of the C classes."""
        return self.focus.results.class_names

    @cached_property
    def groups(self) -> CategoryGroups:
        """The partition of the classes."""
        return CategoryGroups.explicit(self.focus.results.groups)

    @property
    def group_names(self) -> list[str]:
        """Names of the groups that have any class."""
        return [name for name, members in zip(self.groups.names, self.groups.members, strict=True) if members]

    def group_name(self, index: int) -> str:
        """Name of the group of a class."""
        return self.groups.names[self.groups.group_of[index]]

    @property
    def groups_from(self) -> str:
        """What told the groups; empty where the results do not say."""
        return str(self.focus.results.settings.get("groups_from") or "")

    @property
    def doubts(self) -> list[str]:
        """Why the scores of the runs may not be of the same images, and what their data betray."""
        notes = [note for run in self.runs for note in run.results.data.get("notes", ())]
        return [*dict.fromkeys(notes), *self._different_images]

    @property
    def _different_images(self) -> list[str]:
        scored: dict[str, list[str]] = {}
        for run in self.runs:
            scored.setdefault(_scored_images(run.results.data), []).append(run.label)
        if any(self._differ_in(key) for key in ("split", "images")):
            listed = "; ".join(f"{', '.join(labels)} on {images}" for images, labels in scored.items())
            return [
                f"The runs were scored on different images, {listed}: a difference between them is not the method's."
            ]
        if self._differ_in("fingerprint"):
            return [
                "The files that the runs were evaluated on differ in name, size or time of change: compare only what "
                "was the same data, perhaps copied."
            ]
        return []

    def _differ_in(self, key: str) -> bool:
        return len({str(run.results.data.get(key) or "") for run in self.runs} - {""}) > 1

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every way to predict: each run's own first, then ensembles, oracles and experts."""
        return tuple(sorted(self._entries(), key=lambda entry: _ORDER[entry.role]))

    def _entries(self) -> Iterator[Entry]:
        for run in self.runs:
            for name, prediction in run.results.predictions.items():
                own = name == run.results.method
                role = _role(name, own, first_of_several=run is self.runs[0] and len(self.runs) > 1)
                label = run.label if own else display_name(name)
                if not own and sum(name in other.results.predictions for other in self.runs) > 1:
                    label = f"{run.label} · {label}"
                yield Entry(label, name, role, prediction, run)

    def of(self, *roles: Role) -> list[Entry]:
        """Entries of these roles, in order."""
        return [entry for entry in self.entries if entry.role in roles]

    @property
    def baseline(self) -> Entry | None:
        """The own prediction of the first of several runs."""
        return next(iter(self.of("baseline")), None)

    @property
    def method(self) -> Entry:
        """The own prediction of the run in focus."""
        return next(e for e in self.entries if e.run is self.focus and e.name == self.focus.results.method)

    @property
    def oracle(self) -> Entry | None:
        """The oracle of the run in focus."""
        return next((e for e in self.of("oracle") if e.run is self.focus), None)

    @cached_property
    def certainty(self) -> Certainty:
        """Intervals of the runs' own predictions, and of their differences to the baseline."""
        own = self.of("baseline", "method")
        return certainty({entry.label: entry.run.images.get(entry.name) for entry in own}, self.groups, *self.draws)

    @property
    def headline(self) -> list[Entry]:
        """Baseline, methods and the oracle in focus: what plots show side by side."""
        return [*self.of("baseline", "method"), *([self.oracle] if self.oracle else [])]

    @property
    def whole(self) -> list[Entry]:
        """All but single experts and stages: the rows of tables."""
        return self.of("baseline", "method", "ensemble", "oracle")

    @cached_property
    def group_metrics(self) -> list[str]:
        """Metrics that groups have, in the order of interest."""
        groups = self.method.prediction.groups.values()
        return _of_interest(dict.fromkeys(name for group in groups for name in group))

    @property
    def overall_metrics(self) -> list[str]:
        """Metrics without a value by group, such as AP50."""
        names = dict.fromkeys(name for entry in self.whole for name in entry.prediction.overall)
        return [name for name in names if name not in self.group_metrics and "bias" not in name]

    @cached_property
    def class_metrics(self) -> list[str]:
        """Per-class metrics, in the order of interest."""
        return _of_interest(self.method.prediction.per_class)

    def values(self, entry: Entry, metric: str) -> np.ndarray:
        """float64 (C,) per-class values of an entry, NaN where undefined or not evaluated."""
        values = entry.prediction.per_class.get(metric)
        if values is None:
            return np.full(len(self.class_names), np.nan)
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)

    @cached_property
    def frequency(self) -> ClassFrequency | None:
        """Counts of the training split, from the first run that has them, the one in focus before others."""
        for run in (self.focus, *self.runs):
            if run.results.frequency is not None:
                return ClassFrequency.from_dict(run.results.frequency)
        return None

    @cached_property
    def counts(self) -> tuple[np.ndarray, str] | None:
        """(C,) occurrences of each class and what they count; None where nothing tells.

        Training pixels (segmentation) or instances (detection); without a frequency, the evaluated pixels.
        """
        units = ("pixels", "images") if self.task == "segmentation" else ("instances", "images")
        for unit in units:
            if self.frequency is not None and getattr(self.frequency, unit) is not None:
                return getattr(self.frequency, unit), f"training {unit}"
        confusion = self.method.prediction.extra.get("confusion")
        if confusion is not None:
            return np.asarray(confusion).sum(axis=1), "evaluated pixels (no training frequency given)"
        return None

    @cached_property
    def order(self) -> np.ndarray:
        """Class ids by descending occurrence; by group, then id, where no counts are known."""
        if self.counts is not None:
            return np.argsort(-self.counts[0], kind="stable")
        return np.argsort(self.groups.group_of, kind="stable")


def labelled(read: Sequence[tuple[Path, Results]]) -> list[Run]:
    """Runs by the name of their method; by that of their folder as well where methods repeat."""
    methods = [results.method for _, results in read]
    runs: dict[str, Run] = {}
    for file, results in read:
        label = display_name(results.method)
        if methods.count(results.method) > 1:
            label = f"{label} ({file.resolve().parent.name})"
        while label in runs:
            label += "′"
        runs[label] = Run(label, results, file)
    return list(runs.values())


def _scored_images(data: dict[str, Any]) -> str:
    images, split = data.get("images"), data.get("split")
    return f"{'images' if images is None else images}{f' of {split}' if split else ''}"


def _of_interest(metrics: Iterable[str]) -> list[str]:
    """Without biases; the average precisions alone where there are any: detection has a dozen metrics."""
    known = [name for name in metrics if "bias" not in name]
    return [name for name in _AVERAGE_PRECISIONS if name in known] or known


_ORDER: dict[Role, int] = {"baseline": 0, "method": 1, "ensemble": 2, "oracle": 3, "expert": 4}


def _role(name: str, own: bool, first_of_several: bool) -> Role:
    if own:
        return "baseline" if first_of_several else "method"
    if name == "oracle":
        return "oracle"
    return "expert" if _NUMBERED.fullmatch(name) else "ensemble"


def display_name(name: str) -> str:
    """How a report writes the name of a method or readout; names that it does not know stay as they are."""
    if numbered := _NUMBERED.fullmatch(name):
        return f"{numbered[1].capitalize()} {numbered[2]}"
    return _NAMES.get(name, name)
