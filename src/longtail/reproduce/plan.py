"""Which runs an experiment needs, with what settings, in which folders, and which of them are there."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from longtail.errors import ConfigError
from longtail.reproduce.catalogue import Budget, Catalogue, Experiment, merged

State = Literal["done", "begun", "missing"]
#: Length of every phase at the schedule of MEDOE §A.2; that of a classifier trained anew is ours.
_ITERATIONS = {"train": 80_000, "experts": 80_000, "ensemble": 1_600, "classifier": 20_000}
#: Method -> its training phases; all others have one, ``train``.
_PHASES = {"medoe": ("experts", "ensemble"), "mcn": ("experts", "ensemble")}


@dataclass(frozen=True)
class PlannedRun:
    """One training run.

    Args:
        key: ``MODEL/METHOD`` of the catalogue.
        seed: Its seed.
        task: ``segmentation`` or ``detection``.
        folder: Its run folder.
        settings: All settings that differ from the defaults.
        start_from: Folder of the run whose weights it begins with.
    """

    key: str
    seed: int
    task: str
    folder: Path
    settings: dict[str, Any] = field(hash=False)
    start_from: Path | None = None

    @property
    def state(self) -> State:
        """Whether the run is scored, begun or not there."""
        if (self.folder / "results.json").is_file():
            return "done"
        return "begun" if self.folder.is_dir() and any(self.folder.iterdir()) else "missing"

    @property
    def iterations(self) -> int | None:
        """Optimiser steps of all phases; None where one is given in epochs of its data."""
        return None if self.settings.get("epochs") else sum(self.settings["iterations"].values())

    @property
    def images(self) -> int | None:
        """Images that these steps see."""
        return None if self.iterations is None else self.iterations * int(self.settings["loading"]["batch_size"])

    @property
    def length(self) -> str:
        """Length of its phases, in words."""
        if self.iterations is not None:
            return f"{self.iterations:,} iterations"
        lengths = [(unit, self.settings.get(unit, {})) for unit in ("iterations", "epochs")]
        return " + ".join(f"{n:,} {unit}" for unit, of in lengths for n in of.values())

    @property
    def speed(self) -> float | None:
        """Iterations a second of a run that is there, as its ``metrics.csv`` has them last."""
        try:
            with (self.folder / "metrics.csv").open(newline="") as file:
                speeds = [float(row["iterations_per_second"]) for row in csv.DictReader(file) if row.get("loss")]
        except (OSError, KeyError, ValueError):
            return None
        return speeds[-1] if speeds else None


def plan(
    catalogue: Catalogue,
    experiment: Experiment,
    *,
    data: str,
    budget: Budget,
    seeds: Sequence[int],
    out: str | Path,
    changes: Mapping[str, Any] | None = None,
    weights: str | None = None,
) -> list[PlannedRun]:
    """All runs of an experiment; those that others begin with come first.

    Runs of the same model, method, data, budget and seed have the same folder, whatever table asks for them.

    Args:
        catalogue: Of the paper.
        experiment: The table or figure.
        data: Data set to run on, as ``data.dataset`` takes it.
        budget: How much to spend.
        seeds: One run of each for every seed.
        out: Folder of all reproductions.
        changes: Settings over all others, for every run.
        weights: File of encoder weights for every run.
    """
    runs: dict[tuple[str, int], PlannedRun] = {}
    base = Path(out) / catalogue.paper / _folder_name(data) / budget.name

    def add(key: str, seed: int) -> PlannedRun:
        if (key, seed) in runs:
            return runs[key, seed]
        model, method = key.split("/")
        first = catalogue.methods[method].get("start_from")
        start = add(f"{model}/{first}", seed).folder if first else None
        own = {} if weights is None else {"weights": weights}
        later = merged({"model": {"backbone": own} if catalogue.task == "detection" else own}, changes or {})
        settings = run_settings(catalogue, experiment.part, key, data=data, budget=budget, seed=seed, changes=later)
        folder = base / f"{model}-{method}-seed{seed}"
        runs[key, seed] = PlannedRun(key, seed, catalogue.task, folder, settings, start)
        return runs[key, seed]

    for seed in seeds:
        for key in experiment.runs:
            add(key, seed)
    return list(runs.values())


def run_settings(
    catalogue: Catalogue,
    part: str,
    key: str,
    *,
    data: str,
    budget: Budget,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Settings of one run: paper, data, model, method, budget and changes, later ones over earlier ones.

    Args:
        catalogue: Of the paper.
        part: Data set of the paper; its settings hold where ``data`` is this data set.
        key: ``MODEL/METHOD``.
        data: Data set to run on.
        budget: How much to spend.
        seed: Seed of the run.
        changes: Settings over all others.
    """
    model, method = key.split("/")
    spending = budget.tasks[catalogue.task]
    of_part = catalogue.data[part]
    of_model = dict(catalogue.models[model])
    if model in spending["models"]:
        of_model["model"] = spending["models"][model]
        of_model.pop("optimiser", None)
    of_method = {name: value for name, value in catalogue.methods[method].items() if name != "start_from"}
    layers: list[Mapping[str, Any]] = [
        {"task": catalogue.task, "seed": seed, "iterations": _ITERATIONS},
        {"loading": {"batch_size": 16}},
        catalogue.settings,
        of_part["settings"] if data.split(":")[0] == of_part["dataset"] else {},
        of_model,
        of_method,
        spending["settings"],
        {"data": {"dataset": data}},
        changes or {},
    ]
    settings = merged(*layers)
    phases = phases_of_method(settings)
    settings |= {"iterations": {}, "epochs": {}}
    for phase in phases:
        unit, length = _length_of(phase, layers)
        settings[unit][phase] = length
    optimisers = settings.pop("phase_optimisers", {})
    settings["phase_optimisers"] = {phase: value for phase, value in optimisers.items() if phase in phases}
    by_phase = ("iterations", "epochs", "phase_optimisers")
    return {name: value for name, value in settings.items() if value or name not in by_phase}


def _length_of(phase: str, layers: Sequence[Mapping[str, Any]]) -> tuple[str, float]:
    """The last layer that names the phase says how long it is, in iterations or in epochs."""
    found = [
        (unit, layer[unit][phase])
        for layer in layers
        for unit in ("iterations", "epochs")
        if phase in layer.get(unit, {})
    ]
    return found[-1]


def phases_of_method(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the training phases that these settings have."""
    if settings.get("train_only") == "classifier":
        return ("classifier",)
    return _PHASES.get(settings["method"]["name"], ("train",))


def _folder_name(data: str) -> str:
    name = data.rstrip("/").replace("\\", "/").split("/")[-1].split(":")[-1]
    if not name:
        raise ConfigError(f"cannot name the data set {data!r}", fix="give a folder, or NAME:FOLDER")
    return name
