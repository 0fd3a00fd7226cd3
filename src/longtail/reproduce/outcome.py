"""The numbers of an experiment: printed ones, and ours."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from longtail.metrics.results import Results
from longtail.reproduce.catalogue import MEMORY, Experiment, Row
from longtail.reproduce.plan import PlannedRun
from longtail.reproduce.significance import PairedDifference, paired_difference

#: Whether a change that a paper prints is found again: in its direction, in the other, or neither beyond chance.
Verdict = Literal["holds", "contradicted", "open"]
#: Below this probability a change is called more than chance.
_SIGNIFICANT = 0.05
#: With fewer seeds it is called open: two differences that happen to be alike have a small p.
_FEWEST_SEEDS = 3


@dataclass(frozen=True)
class Cell:
    """One entry of a row.

    Args:
        published: Printed number in percent; None where there is none.
        values: Ours in percent, seed -> value.
        difference: From the row that this one is compared with, over the seeds of both; None for that row itself.
        published_change: The same difference of the printed numbers; None where one of them is not printed.
    """

    published: float | None
    values: dict[int, float]
    difference: PairedDifference | None = None
    published_change: float | None = None

    @property
    def verdict(self) -> Verdict | None:
        """Whether the printed change holds in these runs; None where none is printed or nothing was run."""
        if not self.published_change or self.difference is None or not self.difference.pairs:
            return None
        few = self.difference.pairs < _FEWEST_SEEDS
        if few or self.difference.p is None or self.difference.p >= _SIGNIFICANT:
            return "open"
        return "holds" if self.same_way else "contradicted"

    @property
    def same_way(self) -> bool:
        """Whether the change goes in the direction of the printed one, beyond chance or not."""
        return bool(self.difference and self.published_change and self.difference.mean * self.published_change > 0)

    @property
    def printed(self) -> str:
        """The published number; a dash where there is none."""
        return "–" if self.published is None else f"{self.published:g}"

    @property
    def ours(self) -> str:
        """Mean and standard deviation over seeds."""
        values = list(self.values.values())
        if not values:
            return "–"
        mean = statistics.mean(values)
        return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"

    @property
    def change(self) -> str:
        """Difference, and how likely it is by chance."""
        if self.difference is None or not self.difference.pairs:
            return ""
        p = self.difference.p
        if p is None:
            return f"{self.difference.mean:+.1f}"
        return f"{self.difference.mean:+.1f} ({'p < 0.01' if p < 0.01 else f'p = {p:.2f}'})"


@dataclass(frozen=True)
class Outcome:
    """An experiment with its numbers.

    Args:
        experiment: The table or figure.
        data: Data set that the runs used.
        budget: Budget that they had.
        cells: Row name -> header -> cell.
        missing: Runs without results.
    """

    experiment: Experiment
    data: str
    budget: str
    cells: dict[str, dict[str, Cell]]
    missing: int

    def verdicts(self) -> dict[Verdict, list[str]]:
        """Changes that the paper prints, as ``ROW, HEADER``, by whether they hold in these runs."""
        found: dict[Verdict, list[str]] = {"holds": [], "contradicted": [], "open": []}
        for name, cells in self.cells.items():
            for header, cell in cells.items():
                if cell.verdict is not None:
                    found[cell.verdict].append(f"{name}, {header}")
        return found

    def claims(self) -> str:
        """One sentence on ``verdicts``; empty where there is nothing to compare."""
        found = self.verdicts()
        counts = {verdict: len(changes) for verdict, changes in found.items()}
        if not any(counts.values()):
            return ""
        cells = [cell for row in self.cells.values() for cell in row.values()]
        leaning = sum(cell.same_way for cell in cells if cell.verdict == "open")
        sentence = (
            f"Changes that the paper prints: {sum(counts.values())}; hold in these runs (same direction, "
            f"p < {_SIGNIFICANT:g}): {counts['holds']}; contradicted (other direction, p < {_SIGNIFICANT:g}): "
            f"{counts['contradicted']}; open: {counts['open']} ({leaning} in the same direction)."
        )
        if found["contradicted"]:
            sentence += f" Contradicted: {'; '.join(found['contradicted'])}."
        return sentence

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for machines."""
        return {
            "paper": self.experiment.paper,
            "experiment": self.experiment.name,
            "part": self.experiment.part,
            "data": self.data,
            "budget": self.budget,
            "claims": self.claims(),
            "rows": {
                name: {
                    header: {
                        "published": cell.published,
                        "values": {str(seed): value for seed, value in cell.values.items()},
                        "change": None if cell.difference is None else cell.difference._asdict(),
                        "published_change": cell.published_change,
                        "verdict": cell.verdict,
                    }
                    for header, cell in cells.items()
                }
                for name, cells in self.cells.items()
            },
        }


def outcome(experiment: Experiment, runs: Sequence[PlannedRun], *, data: str, budget: str) -> Outcome:
    """Read the results of an experiment's runs.

    Args:
        experiment: The table or figure.
        runs: Its runs; those without results leave gaps.
        data: Data set of the runs.
        budget: Their budget.
    """
    results = {(run.key, run.seed): Results.load(run.folder / "results.json") for run in runs if run.state == "done"}
    seeds = sorted({run.seed for run in runs})
    values = {row.name: _row_values(row, experiment, results, seeds) for row in experiment.rows}
    published = {row.name: row.published or [None] * len(experiment.columns) for row in experiment.rows}
    cells = {}
    for row in experiment.rows:
        base = row.against or experiment.baseline
        other = values.get(base, {})
        of_row = {}
        for index, header in enumerate(experiment.columns):
            mine, theirs = values[row.name][header], other.get(header, {})
            both = [seed for seed in mine if seed in theirs]
            compared = row.name != base and _is_compared(row, experiment)
            difference = paired_difference([theirs[s] for s in both], [mine[s] for s in both]) if compared else None
            before, after = (published[name][index] if name in published else None for name in (base, row.name))
            change = after - before if compared and before is not None and after is not None else None
            of_row[header] = Cell(after, mine, difference, change)
        cells[row.name] = of_row
    missing = sum(run.state != "done" for run in runs)
    return Outcome(experiment, data, budget, cells, missing)


def _is_compared(row: Row, experiment: Experiment) -> bool:
    """Where rows name what they are compared with, those that name nothing are themselves compared with."""
    return row.against is not None or not any(other.against for other in experiment.rows)


def _row_values(
    row: Row, experiment: Experiment, results: Mapping[tuple[str, int], Results], seeds: Sequence[int]
) -> dict[str, dict[int, float]]:
    """Header -> seed -> percent; memory in GB."""
    found: dict[str, dict[int, float]] = {header: {} for header in experiment.columns}
    for seed in seeds:
        result = results.get((row.run, seed))
        prediction = result and result.predictions.get(row.readout or result.method)
        if not prediction:
            continue
        for header, place in experiment.columns.items():
            value = _at(vars(result if place == MEMORY else prediction), place)
            if value is not None and math.isfinite(value):
                found[header][seed] = value if place == MEMORY else 100 * value
    return found


def _at(record: Any, place: str) -> float | None:
    for key in place.split("."):
        if not isinstance(record, Mapping) or key not in record:
            return None
        record = record[key]
    return record
