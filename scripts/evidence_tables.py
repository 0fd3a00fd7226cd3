"""The tables of the evidence pages, from ``docs/papers/evidence/**/results.json`` and ``readings.json`` alone."""

import json
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from evidence_readings import FORMS, METRICS, TAUS, readings
from evidence_runs import KEPT
from pages import mean_and_spread, p_value

#: (metric, group); no group for all classes.
Place = tuple[str, str | None]
_BOXES: dict[str, Place] = {"box AP" if name == "AP" else name: place for name, place in METRICS.items()}
BOXES = {name: _BOXES[name] for name in ("box AP", "r", "c", "f", "AP_fixed", "r_fixed")}
#: Without AP-fixed, which only some readings have.
LIMITED = {name: place for name, place in BOXES.items() if "fixed" not in name}
_GROUPS = (None, "head", "body", "tail")
PIXELS = {f"{group or 'all'} {metric}": (metric, group) for group in _GROUPS for metric in ("mIoU", "mAcc")}
NOTHING = "No run of this table is finished yet."


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        label: What the page calls it.
        run: ``DATASET/NAME``.
        readout: Name of a prediction in ``results.json``, or of a reading in ``readings.json``.
    """

    label: str
    run: str
    readout: str


@cache
def _records(run: str) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """Seed -> predictions and readings of a run."""
    dataset, name = run.split("/")
    found = {}
    for folder in sorted((KEPT / dataset).glob(f"{name}-seed*")):
        if match := re.fullmatch(rf"{re.escape(name)}-seed(\d+)", folder.name):
            read = folder / "readings.json"
            predictions = json.loads((folder / "results.json").read_text(encoding="utf-8"))["predictions"]
            own = json.loads(read.read_text(encoding="utf-8")) if read.is_file() else {}
            found[int(match[1])] = (predictions, own)
    return found


def scores(row: Row, place: Place, part: str = "all") -> dict[int, float]:
    """Seed -> score of a row in percent."""
    metric, group = place
    found = {}
    for seed, (predictions, read) in _records(row.run).items():
        value = None
        if row.readout in read:
            keys = [key for key, known in METRICS.items() if known == place]
            value = read[row.readout][part].get(keys[0]) if keys else None
        elif part == "all" and row.readout in predictions:
            prediction = predictions[row.readout]
            value = (prediction["overall"] if group is None else prediction["groups"].get(group, {})).get(metric)
        if value is not None and math.isfinite(value):
            found[seed] = 100 * value
    return found


def table(rows: Sequence[Row], columns: dict[str, Place], against: Row | None = None) -> str:
    """Mean and spread over seeds; below, the change against a row, paired by seed, with its p-value.

    The p-values are Holm's, over all rows of a column. From two seeds on there is one.
    """
    from longtail.reproduce.significance import holm, paired_difference

    cells: dict[str, list[str]] = {row.label: [] for row in rows}
    for place in columns.values():
        base = {} if against is None else scores(against, place)
        values = {row.label: scores(row, place) for row in rows}
        differences = {
            row.label: paired_difference(*zip(*((base[s], values[row.label][s]) for s in both), strict=True))
            for row in rows
            if row != against and (both := sorted(base.keys() & values[row.label].keys()))
        }
        adjusted = dict(zip(differences, holm([d.p for d in differences.values()]), strict=True))
        for row in rows:
            text = mean_and_spread(list(values[row.label].values()))
            if (change := differences.get(row.label)) is not None:
                p = adjusted[row.label]
                text += f"<br>{change.mean:+.1f}" + ("" if p is None else f", {p_value(p)}")
            cells[row.label].append(text)
    first = next(iter(columns.values()))
    lines = ["| | seeds | " + " | ".join(columns) + " |", "|---|---:|" + "---:|" * len(columns)]
    for row in rows:
        seeds = len(scores(row, first))
        if seeds:
            lines.append(f"| {row.label} | {seeds} | " + " | ".join(cells[row.label]) + " |")
    return "\n".join(lines) if len(lines) > 2 else NOTHING


def oracle_gap(rows: Sequence[Row], baseline: Row, oracle: Row) -> str:
    """What part of the way from the baseline to the oracle each row goes, in percent, mean over seeds."""
    lines = ["| | seeds | mIoU | mAcc | tail mIoU | tail mAcc |", "|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        cells, seeds = [], 0
        for place in (("mIoU", None), ("mAcc", None), ("mIoU", "tail"), ("mAcc", "tail")):
            low, own, high = (scores(r, place) for r in (baseline, row, oracle))
            both = sorted(low.keys() & own.keys() & high.keys())
            seeds = max(seeds, len(both))
            ways = [100 * (own[s] - low[s]) / (high[s] - low[s]) for s in both if high[s] != low[s]]
            cells.append(mean_and_spread(ways))
        if seeds:
            lines.append(f"| {row.label} | {seeds} | " + " | ".join(cells) + " |")
    return "\n".join(lines) if len(lines) > 2 else NOTHING


def chosen_taus(runs: dict[str, str]) -> str:
    """Each form of the dynamic ensemble at the τ that is best in AP on one half of the images, scored on the other.

    Args:
        runs: What the page calls a run -> ``DATASET/NAME``.
    """
    lines = ["| | seeds | chosen τ | box AP | r | change of AP | change of r |", "|---|---:|---|---:|---:|---:|---:|"]
    for title, run in runs.items():
        plain = Row(title, run, "average of logits")
        wanted = {plain.readout, *(f"{form}, τ = {tau:g}" for form in FORMS for tau in TAUS)}
        seeds = sorted(seed for seed, (_, read) in _records(run).items() if wanted <= read.keys())
        for form in FORMS if seeds else ():
            taus: list[float] = []
            found: dict[str, list[float]] = {"AP": [], "r": [], "dAP": [], "dr": []}
            for seed in seeds:
                halves: dict[str, list[float]] = {key: [] for key in found}
                for here, there in (("half 1", "half 2"), ("half 2", "half 1")):
                    rows = {tau: Row(form, run, f"{form}, τ = {tau:g}") for tau in TAUS}
                    best = max(TAUS, key=lambda tau, h=here, of=rows: scores(of[tau], ("AP", None), h)[seed])
                    taus.append(best)
                    for key, place in (("AP", ("AP", None)), ("r", ("AP", "rare"))):
                        own, base = (scores(row, place, there)[seed] for row in (rows[best], plain))
                        halves[key].append(own)
                        halves[f"d{key}"].append(own - base)
                for key, values in halves.items():
                    found[key].append(statistics.mean(values))
            shown = ", ".join(f"{tau:g}" for tau in taus)
            changes = [f"{statistics.mean(found[key]):+.2f}" for key in ("dAP", "dr")]
            cells = [mean_and_spread(found["AP"]), mean_and_spread(found["r"]), *changes]
            lines.append(f"| {title}: {form} | {len(seeds)} | {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines) if len(lines) > 2 else NOTHING


def every_reading(runs: dict[str, str]) -> str:
    """All readings of some runs side by side."""
    shown = {title: run for title, run in runs.items() if any(read for _, read in _records(run).values())}
    if not shown:
        return NOTHING
    headers = [f"{title} {column}" for title in shown for column in LIMITED]
    lines = ["| | seeds | " + " | ".join(headers) + " |", "|---|---|" + "---:|" * len(headers)]
    for name in ("stage_1", "stage_2", "stage_3", *readings()):
        rows = [Row(title, run, name) for title, run in shown.items()]
        seeds = "/".join(str(len(scores(row, ("AP", None)))) for row in rows)
        cells = [mean_and_spread(list(scores(row, place).values())) for row in rows for place in LIMITED.values()]
        lines.append(f"| {name} | {seeds} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def signs(runs: dict[str, str]) -> str:
    """What alignment and the dynamic ensemble change against the average of logits, for each run."""
    wanted = (
        "average of logits, aligned, relative",
        "dynamic, τ = 1",
        "dynamic, τ = 5",
        "dynamic, aligned, τ = 1",
        "dynamic, aligned, τ = 5",
    )
    lines = ["| | seeds | box AP | r | " + " | ".join(f"{name}: AP / r" for name in wanted) + " |"]
    lines.append("|---|---:|---:|---:|" + "---:|" * len(wanted))
    for title, run in runs.items():
        plain = [scores(Row(title, run, "average of logits"), place) for place in (("AP", None), ("AP", "rare"))]
        if not plain[0]:
            continue
        cells = [mean_and_spread(list(values.values())) for values in plain]
        for name in wanted:
            changes = []
            for place, base in zip((("AP", None), ("AP", "rare")), plain, strict=True):
                own = scores(Row(title, run, name), place)
                changes.append(f"{statistics.mean(own[seed] - base[seed] for seed in own):+.1f}")
            cells.append(" / ".join(changes))
        lines.append(f"| {title} | {len(plain[0])} | " + " | ".join(cells) + " |")
    return "\n".join(lines) if len(lines) > 2 else NOTHING
