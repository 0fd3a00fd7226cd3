"""``metrics.csv``: one row per measurement; columns are added as needed. Does not import torch."""

import csv
import io
import math
import statistics
from pathlib import Path
from typing import Any

FIRST_COLUMNS = ("phase", "iteration")


class MetricsFile:
    """A table that grows by rows and columns and survives a kill after any row.

    Args:
        path: The file; rows that it holds already are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self.rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline="") as handle:
                reader = csv.DictReader(handle)
                rows = list(reader)
                self.columns = list(reader.fieldnames or [])
            self.rows = [row for row in rows if None not in row.values()]
            if len(self.rows) != len(rows):
                self._rewrite()  # a killed write left half a row

    def forget_after(self, phase: str, iteration: int, done: tuple[str, ...]) -> None:
        """Drop rows that a resumed run will measure again."""
        kept = [
            row
            for row in self.rows
            if row["phase"] in done or (row["phase"] == phase and int(row["iteration"]) <= iteration)
        ]
        if len(kept) != len(self.rows):
            self.rows = kept
            self._rewrite()

    def append(self, phase: str, iteration: int, values: dict[str, Any]) -> None:
        """Add a row."""
        row = {"phase": phase, "iteration": str(iteration), **{name: f"{value:.6g}" for name, value in values.items()}}
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        if new:
            self.columns += new
            self._rewrite()
        else:
            with self.path.open("a", newline="") as handle:
                handle.write(self._format([row]))

    def _rewrite(self) -> None:
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(",".join(self.columns) + "\n" + self._format(self.rows), newline="")
        part.replace(self.path)

    def _format(self, rows: list[dict[str, str]]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self.columns, restval="", lineterminator="\n").writerows(rows)
        return text.getvalue()


def measured(path: Path) -> dict[str, Any]:
    """Measurements of a training run other than losses.

    Args:
        path: Its ``metrics.csv``.

    Returns:
        ``memory_gb``, the peak over all phases, and ``positives``, mean foreground boxes of a batch that each stage of a
        detector learned from, ``{stage: {group: number}}``; without values that were not measured.
    """
    if not path.is_file():
        return {}
    found: dict[str, Any] = {}
    positives: dict[str, dict[str, list[float]]] = {}
    for row in MetricsFile(path).rows:
        numbers = {name: float(value) for name, value in row.items() if name not in FIRST_COLUMNS and value}
        if math.isfinite(memory := numbers.get("memory_gb", math.nan)):
            found["memory_gb"] = max(memory, found.get("memory_gb", 0.0))
        for name, value in numbers.items():
            if name.startswith("positives/"):
                stage, group = name.split("/")[1:]
                positives.setdefault(stage, {}).setdefault(group, []).append(value)
    if positives:
        found["positives"] = {
            stage: {group: statistics.mean(values) for group, values in groups.items()}
            for stage, groups in positives.items()
        }
    return found
