"""The papers' tables and the run behind each number, read from ``papers/*.yaml``."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from longtail.settings import one_of

PAPERS = ("medoe", "mec")
#: Place of the peak memory of training, in 10^9 bytes, in a whole ``results.json``.
MEMORY = "training.memory_gb"


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        name: As the paper calls it.
        run: ``MODEL/METHOD`` of the catalogue.
        readout: Which of the run's predictions is meant; None for the method's own.
        against: Row that this one is compared with; None for the experiment's baseline.
        published: Printed numbers in percent, one per column, None where there is none; or empty.
        misprint: Error in the printed numbers.
        at: Place on the axis of a curve.
    """

    name: str
    run: str
    readout: str | None = None
    against: str | None = None
    published: tuple[float | None, ...] = ()
    misprint: str = ""
    at: float | None = None


@dataclass(frozen=True)
class Experiment:
    """A table or figure on one data set.

    Args:
        paper: ``medoe`` or ``mec``.
        name: Such as ``table-6``.
        part: The paper's data set.
        title: Its subject.
        columns: Header -> dotted place of the number in a prediction of ``results.json``, or ``MEMORY``.
        rows: Its rows.
        baseline: Row that the others are compared with.
        curve: Name of what varies from row to row; empty where nothing is drawn.
        note: Remark on the printed numbers.
    """

    paper: str
    name: str
    part: str
    title: str
    columns: dict[str, str]
    rows: tuple[Row, ...]
    baseline: str
    curve: str = ""
    note: str = ""

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that the rows read, each once."""
        return tuple(dict.fromkeys(row.run for row in self.rows))


class Catalogue:
    """Everything of one paper.

    Args:
        paper: ``medoe`` or ``mec``.

    Raises:
        ConfigError: There is no such paper.
    """

    def __init__(self, paper: str) -> None:
        record = _read(one_of("paper", paper, PAPERS))
        self.paper: str = record["paper"]
        self.task: str = record["task"]
        self.title: str = record["title"]
        self.data: dict[str, dict[str, Any]] = record["data"]
        self.models: dict[str, dict[str, Any]] = record["models"]
        self.methods: dict[str, dict[str, Any]] = record["methods"]
        self.settings: dict[str, Any] = record.get("settings", {})
        self._experiments: dict[str, dict[str, Any]] = record["experiments"]

    @property
    def names(self) -> tuple[str, ...]:
        """Tables and figures."""
        return tuple(self._experiments)

    def parts(self, name: str) -> tuple[str, ...]:
        """The data sets of a table or figure.

        Raises:
            ConfigError: There is no such table.
        """
        return tuple(self._experiments[one_of(f"table or figure of {self.paper}", name, self.names)]["parts"])

    def experiment(self, name: str, part: str | None = None) -> Experiment:
        """A table or figure on one of its data sets; on the first where none is named.

        Raises:
            ConfigError: There is no such table, or it is not of that data set.
        """
        parts = self.parts(name)
        part = parts[0] if part is None else one_of(f"part of {name}", part, parts)
        record = self._experiments[name]
        with_memory = bool(record.get("memory"))
        rows = tuple(_row(entry, with_memory) for entry in record["parts"][part])
        return Experiment(
            paper=self.paper,
            name=name,
            part=part,
            title=record["title"],
            columns={**record["columns"], **({"memory GB": MEMORY} if with_memory else {})},
            rows=rows,
            baseline=record.get("baseline", rows[0].name),
            curve=record.get("curve", ""),
            note=record.get("note", ""),
        )


@dataclass(frozen=True)
class Budget:
    """Share of a paper's schedule.

    Args:
        name: ``smoke``, ``small``, ``medium`` or ``paper``.
        title: Its expected cost.
        seeds: Number of seeds.
        tasks: Task -> ``settings`` of every run and stand-ins of ``models``.
    """

    name: str
    title: str
    seeds: int
    tasks: dict[str, dict[str, Any]]


@cache
def budgets() -> dict[str, Budget]:
    """All budgets by name."""
    return {
        name: Budget(name, entry.pop("title"), entry.pop("seeds"), entry) for name, entry in _read("budgets").items()
    }


def budget(name: str) -> Budget:
    """A budget by name.

    Raises:
        ConfigError: There is no such budget.
    """
    return budgets()[one_of("budget", name, tuple(budgets()))]


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, later ones over earlier ones; options of another model or method are not mixed in."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            before = result.get(key)
            if isinstance(value, Mapping) and isinstance(before, Mapping) and not _renamed(before, value):
                result[key] = merged(before, value)
            else:
                result[key] = merged(value) if isinstance(value, Mapping) else value
    return result


def _renamed(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return "name" in before and "name" in after and before["name"] != after["name"]


def _row(entry: Mapping[str, Any], with_memory: bool) -> Row:
    values = {key: value for key, value in entry.items() if key not in ("row", "published", "memory")}
    published = tuple(entry.get("published", ()))
    return Row(name=entry["row"], published=(*published, entry.get("memory")) if with_memory else published, **values)


def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((resources.files(__package__) / "papers" / f"{name}.yaml").read_text(encoding="utf-8"))
