"""Tables of a comparison: one description, shown in the console or in HTML."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from longtail.reports.comparison import Comparison, Entry

Tone = Literal["", "good", "bad", "muted"]

_WORDS = ("", "class", "called", "group", "true group")
_FEW = 3  # metrics with their groups that fit on a page; overall-only metrics that fit beside them


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Args:
        text: What it says.
        note: Smaller text after it: the difference to the baseline.
        tone: Colour of the note.
        strong: Whether it is the best of its column.
        shade: Background strength in [0, 1], None for none.
        key: What to sort by instead of the text.
    """

    text: str
    note: str = ""
    tone: Tone = ""
    strong: bool = False
    shade: float | None = None
    key: float | None = None


@dataclass(frozen=True)
class Table:
    """A table to show.

    Args:
        title: One line above it.
        columns: (band, name) of every column; neighbours of one band share a heading.
        rows: One cell a column.
        caption: What the reader must know.
        quiet: Indices of rows that are no fair competitor (an oracle) or stand apart.
    """

    title: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    quiet: frozenset[int] = frozenset()

    @property
    def wide(self) -> bool:
        """Whether it needs the page's whole width."""
        return len(self.columns) > 8

    @property
    def text_columns(self) -> frozenset[int]:
        """Indices of columns of words, to align left."""
        return frozenset(i for i, (_, name) in enumerate(self.columns) if name in _WORDS)

    @property
    def bands(self) -> list[tuple[str, int]]:
        """Heading and width of each run of columns of one band."""
        bands: list[tuple[str, int]] = []
        for band, _ in self.columns:
            if bands and bands[-1][0] == band:
                bands[-1] = (band, bands[-1][1] + 1)
            else:
                bands.append((band, 1))
        return bands


def percent(value: float | None, digits: int = 2) -> str:
    """A score in percent, or a dash where it is undefined."""
    return "–" if value is None or not np.isfinite(value) else f"{100 * value:.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """A difference in points with its sign; empty where it is undefined."""
    if value is None or not np.isfinite(value):
        return ""
    text = f"{100 * value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else f"±{text[1:]}"


def group_tables(comparison: Comparison) -> list[Table]:
    """``group_table`` in parts that fit on a page."""
    metrics = comparison.group_metrics
    size = _FEW if len(metrics) <= _FEW else 2
    parts = [group_table(comparison, metrics=metrics[i : i + size]) for i in range(0, max(len(metrics), 1), size)]
    last = len(parts) - 1
    return [replace(t, title="" if i else t.title, caption=t.caption * (i == last)) for i, t in enumerate(parts)]


def group_table(
    comparison: Comparison,
    *,
    uniform: bool = False,
    metrics: Sequence[str] | None = None,
) -> Table:
    """Scores over all classes and by group, a row a way to predict, with differences to the baseline.

    Args:
        comparison: The runs.
        uniform: Show the evaluation on a uniform class distribution instead.
        metrics: Which metrics; all where not given.
    """
    shown = comparison.group_metrics if metrics is None else metrics
    entries = [e for e in comparison.of("baseline", "method", "ensemble", "oracle") if _scores(e, uniform)]
    scored = [(metric, column) for metric in shown for column in ("all", *comparison.groups.names)]
    overall = _overall_only(comparison)
    overall = overall if len(overall) <= _FEW and shown[:1] == comparison.group_metrics[:1] else []
    columns = scored + [("", metric) for metric in overall]
    wanted = scored + [(metric, "all") for metric in overall]
    values = _matrix([[_score(_scores(e, uniform), metric, column) for metric, column in wanted] for e in entries])
    fair = [i for i, e in enumerate(entries) if e.role != "oracle"]
    rows = [
        [Cell(_row_label(entry)), *_compared(values, row, _base_row(entries), fair)]
        for row, entry in enumerate(entries)
    ]
    sizes = dict(zip(comparison.groups.names, comparison.groups.sizes, strict=True))
    caption = "Percent. " + ", ".join(f"{name}: {size} classes" for name, size in sizes.items()) + "."
    if comparison.groups_from:
        caption += f" Groups: {comparison.groups_from}."
    if comparison.baseline is not None:
        caption += f" Small numbers: difference to {comparison.baseline.label}."
    if any(e.role == "oracle" for e in entries):
        caption += " † chooses the expert by the true label: a bound, not a method."
    return Table(
        title="Uniform class distribution" if uniform else "By group",
        columns=[("", ""), *columns],
        rows=rows,
        caption=caption,
        quiet=frozenset(i for i, e in enumerate(entries) if e.role == "oracle"),
    )


def overall_table(comparison: Comparison) -> Table | None:
    """Overall scores without a value by group (AP50, AP75, …); None where the group table has room for them."""
    entries = comparison.of("baseline", "method", "ensemble", "oracle")
    metrics = _overall_only(comparison)
    if len(metrics) <= _FEW:
        return None
    values = _matrix([[e.prediction.overall.get(metric) for metric in metrics] for e in entries])
    fair = [i for i, e in enumerate(entries) if e.role != "oracle"]
    return Table(
        title="Further overall scores",
        columns=[("", ""), *(("", metric) for metric in metrics)],
        rows=[
            [Cell(_row_label(e)), *_compared(values, row, _base_row(entries), fair)] for row, e in enumerate(entries)
        ],
        quiet=frozenset(i for i, e in enumerate(entries) if e.role == "oracle"),
    )


def expert_table(comparison: Comparison) -> Table | None:
    """Each expert's accuracy and bias by group (MEDOE Table 11); None where no run has experts."""
    experts = comparison.of("expert")
    if not experts:
        return None
    runs = list(dict.fromkeys(e.run.label for e in experts))
    entries = [e for e in comparison.entries if e.run.label in runs and (e.role in ("method", "baseline", "expert"))]
    # the others stand in the table by group
    groups = comparison.group_metrics if len(comparison.group_metrics) <= _FEW else comparison.group_metrics[:2]
    metrics = [m for m in (*groups, "bias") if any(_has(e, m) for e in entries)]
    columns = [(metric, column) for metric in metrics for column in ("all", *comparison.groups.names)]
    values = _matrix([[_score(_scores(e, False), m, c) for m, c in columns] for e in entries])
    with np.errstate(invalid="ignore"):
        low, high = _column_range(values)
    rows = []
    for row, entry in enumerate(entries):
        cells = [Cell(entry.label)]
        for column, (metric, _) in enumerate(columns):
            value = values[row, column]
            span = high[column] - low[column]
            shade = (value - low[column]) / span if span > 0 else 0.0
            shade = 1 - shade if metric == "bias" else shade
            text = percent(value) if metric != "bias" else "–" if np.isnan(value) else f"{value:.3f}"
            cells.append(Cell(text, shade=None if np.isnan(value) else float(shade)))
        rows.append(cells)
    return Table(
        title="",
        columns=[("", ""), *columns],
        rows=rows,
        caption="The deeper the colour, the better within its column."
        + (" Bias: mean squared distance of the probabilities to the one-hot label." if "bias" in metrics else ""),
    )


def group_error_table(comparison: Comparison) -> Table | None:
    """Share of each group's pixels that are predicted as another class, by the group of that class."""
    entries = [e for e in comparison.headline if "fp_fn_by_group" in e.prediction.extra]
    if not entries:
        return None
    names = comparison.groups.names
    rows = []
    for entry in entries:
        analysis = entry.prediction.extra["fp_fn_by_group"]
        for place, group in enumerate(names):
            own = analysis["groups"][group]
            pixels = own["pixels"]
            lost = [analysis["mass"][group][other] / pixels if pixels else None for other in names]
            false_positive = own["FP"] / pixels if pixels else None
            label = "" if place else entry.label
            rows.append([Cell(label), Cell(group), *(Cell(percent(v)) for v in (*lost, false_positive))])
    return Table(
        title="Where wrong pixels go",
        columns=[("", ""), ("", "true group"), *(("lost to", name) for name in names), ("", "false positives")],
        rows=rows,
        caption="Percent of the true group's pixels. Head pixels lost to the tail are what a tail class gains in "
        "false positives.",
    )


def top_confusion_table(comparison: Comparison, count: int = 12) -> Table | None:
    """What the method in focus most often takes a class for; works for any number of classes."""
    top = comparison.method.prediction.extra.get("top_confusions")
    if not top:
        return None
    rows = [
        [
            Cell(comparison.class_names[truth]),
            Cell(comparison.groups.names[comparison.groups.group_of[truth]]),
            Cell(comparison.class_names[called]),
            Cell(percent(pixels / total, 1)),
            Cell(f"{pixels:,}"),
        ]
        for truth, called, pixels, total in top[:count]
    ]
    columns = [("", "class"), ("", "group"), ("", "called"), ("", "% of its pixels"), ("", "pixels")]
    return Table(f"Largest confusions of {comparison.method.label}", columns, rows)


def correlation_table(comparison: Comparison) -> Table | None:
    """Pearson correlation of class frequency with the scores (MEDOE Table 10)."""
    shown = comparison.of("baseline", "method", "ensemble", "oracle")
    entries = [e for e in shown if e.prediction.extra.get("pearson")]
    if not entries:
        return None
    metrics = list(entries[0].prediction.extra["pearson"])
    return Table(
        title="Correlation with frequency",
        columns=[("", ""), *(("Pearson ρ", metric) for metric in metrics)],
        rows=[
            [Cell(_row_label(e)), *(Cell(percent(e.prediction.extra["pearson"].get(m), 1)) for m in metrics)]
            for e in entries
        ],
        caption="Percent, between a class's share of the training pixels and its score; 0 means that frequency does "
        "not tell how well a class is segmented.",
    )


def class_table(comparison: Comparison) -> Table:
    """Every class with its group, frequency and scores, rarest last."""
    entries = comparison.headline
    metrics = comparison.class_metrics
    counts, unit = comparison.counts or (None, "")
    base = comparison.baseline
    rows = []
    for index in comparison.order:
        group = comparison.groups.names[comparison.groups.group_of[index]]
        cells = [Cell(str(index), key=int(index)), Cell(comparison.class_names[index]), Cell(group)]
        if counts is not None:
            cells.append(Cell(f"{int(counts[index]):,}", key=int(counts[index])))
        for metric in metrics:
            reference = None if base is None else comparison.values(base, metric)[index]
            for entry in entries:
                value = comparison.values(entry, metric)[index]
                gain = np.nan if reference is None or entry is base else value - reference
                cells.append(Cell(percent(value, 1), signed(gain, 1), _tone(gain, 1), key=_key(value)))
        rows.append(cells)
    columns = [("", "id"), ("", "class"), ("", "group"), *([("", unit.split(" (")[0])] if counts is not None else [])]
    columns += [(metric, entry.label) for metric in metrics for entry in entries]
    return Table("", columns, rows, caption="Click a heading to sort.")


def extreme_classes_table(
    comparison: Comparison, *, best: bool = False, metric: str | None = None, count: int = 10
) -> Table:
    """The classes with the lowest score of the method in focus, or with the highest.

    Args:
        comparison: The runs.
        best: Show the highest, best first; else the lowest, worst first.
        metric: A per-class metric; by default the first (IoU, or AP).
        count: How many classes at most; never more than half of those with a score.
    """
    metric = metric or comparison.class_metrics[0]
    values = comparison.values(comparison.method, metric)
    ranked = np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())]
    ranked = ranked[::-1] if best else ranked
    entries = comparison.headline
    base = comparison.baseline
    rows = []
    for index in ranked[: max(1, min(count, len(ranked) // 2))]:
        group = comparison.groups.names[comparison.groups.group_of[index]]
        row = [Cell(comparison.class_names[index]), Cell(group)]
        for entry in entries:
            value = comparison.values(entry, metric)[index]
            gain = np.nan if base is None or entry is base else value - comparison.values(base, metric)[index]
            row.append(Cell(percent(value, 1), signed(gain, 1), _tone(gain, 1)))
        rows.append(row)
    columns = [("", "class"), ("", "group"), *((metric, entry.label) for entry in entries)]
    return Table(f"{'Best' if best else 'Worst'} classes by {metric}", columns, rows)


def _overall_only(comparison: Comparison) -> list[str]:
    entries = comparison.of("baseline", "method", "ensemble", "oracle")
    shown = dict.fromkeys(name for e in entries for name in e.prediction.overall)
    return [name for name in shown if name not in comparison.group_metrics and "bias" not in name]


def _scores(entry: Entry, uniform: bool) -> dict[str, Any]:
    """``overall`` and ``groups`` of an entry, empty where it was not evaluated so."""
    if uniform:
        return entry.prediction.extra.get("uniform") or {}
    return {"overall": entry.prediction.overall, "groups": entry.prediction.groups}


def _score(scores: dict[str, Any], metric: str, column: str) -> float:
    values = scores["overall"] if column == "all" else scores["groups"].get(column, {})
    value = values.get(metric)
    return np.nan if value is None else value


def _has(entry: Entry, metric: str) -> bool:
    return any(metric in values for values in entry.prediction.groups.values())


def _matrix(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
    return np.array([[np.nan if v is None else v for v in row] for row in rows], dtype=np.float64)


def _column_range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    filled = np.isfinite(values)
    low = np.where(filled, values, np.inf).min(axis=0)
    high = np.where(filled, values, -np.inf).max(axis=0)
    return np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)


def _base_row(entries: Sequence[Entry]) -> int | None:
    return next((i for i, e in enumerate(entries) if e.role == "baseline"), None)


def _compared(values: np.ndarray, row: int, base: int | None, fair: Sequence[int]) -> list[Cell]:
    """Cells of one row, with differences to the base row; the best fair value of a column is strong."""
    cells = []
    for column in range(values.shape[1]):
        value = values[row, column]
        gain = np.nan if base is None or row == base else value - values[base, column]
        rivals = values[list(fair), column]
        rivals = rivals[np.isfinite(rivals)]
        best = row in fair and len(rivals) > 1 and value == rivals.max()
        cells.append(Cell(percent(value), signed(gain), _tone(gain), strong=bool(best), key=_key(value)))
    return cells


def _tone(gain: float, digits: int = 2) -> Tone:
    if not np.isfinite(gain) or abs(gain) < 0.5 * 10.0 ** -(digits + 2):
        return "muted"
    return "good" if gain > 0 else "bad"


def _key(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _row_label(entry: Entry) -> str:
    return f"{entry.label} †" if entry.role == "oracle" else entry.label
