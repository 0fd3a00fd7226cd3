"""Tables of a comparison as data; ``console.py`` and the page's template show them."""

from collections.abc import Iterator, Sequence

import numpy as np

from longtail.reports.cells import Cell, Table, count_cell, counted, percent, score_cell, signed, tone
from longtail.reports.comparison import Comparison, Entry

_FEW = 3  # metrics with their groups that fit next to each other on a page; metrics without groups that fit after them


def group_tables(comparison: Comparison, *, uniform: bool = False) -> list[Table]:
    """Scores over all classes and by group, a row for each way to predict, in parts that fit on a page.

    Args:
        comparison: The runs.
        uniform: Show the evaluation on a uniform class distribution instead.
    """
    overall = comparison.overall_metrics
    parts = _parts(comparison, uniform) or [[]]
    tables = []
    for place, metrics in enumerate(parts):
        keys = _by_group(comparison, metrics)
        if place == 0 and len(overall) <= _FEW:
            keys += [(metric, "all") for metric in overall]
        title = "" if place else "Uniform class distribution" if uniform else "By group"
        caption = _caption(comparison) if place == len(parts) - 1 else ""
        tables.append(_score_table(comparison, title, keys, caption, uniform).filled)
    return tables


def group_table(comparison: Comparison) -> Table:
    """The parts of ``group_tables`` as one table, for files."""
    keys = _by_group(comparison, comparison.group_metrics)
    return _score_table(comparison, "By group", keys, _caption(comparison))


def overall_table(comparison: Comparison, *, every: bool = False) -> Table | None:
    """Overall scores that the group tables do not show (AP50, AR@10, …); None where they have room for them.

    Args:
        comparison: The runs.
        every: Show all overall scores.
    """
    metrics = comparison.overall_metrics
    if every:
        metrics = list(dict.fromkeys(m for entry in comparison.whole for m in entry.prediction.overall))
    elif len(metrics) <= _FEW:
        return None
    table = _score_table(comparison, "Scores over all classes", [(metric, "all") for metric in metrics])
    return table if every else table.filled


def expert_table(comparison: Comparison) -> Table | None:
    """Accuracy and bias of every expert by group (MEDOE Table 11); None where no run has experts."""
    experts = comparison.of("expert")
    if not experts:
        return None
    runs = {entry.run.label for entry in experts}
    entries = [e for e in comparison.of("baseline", "method", "expert") if e.run.label in runs]
    known = comparison.group_metrics if len(comparison.group_metrics) <= _FEW else comparison.group_metrics[:2]
    metrics = [m for m in (*known, "bias") if any(m in of for e in experts for of in e.prediction.groups.values())]
    columns = _by_group(comparison, metrics)
    values = _values(entries, columns)
    cells = np.array([_shaded(values[:, i], metric) for i, (metric, _) in enumerate(columns)], dtype=object).T
    caption = "Bias: mean squared distance of the probabilities to the one-hot label." if "bias" in metrics else ""
    rows = [[Cell(entry.label), *row] for entry, row in zip(entries, cells.tolist(), strict=True)]
    return Table("", [("", ""), *columns], rows, caption)


def group_error_table(comparison: Comparison) -> Table | None:
    """Share of each group's pixels that are predicted as another class, by the group of that class."""
    entries = [e for e in comparison.headline if "fp_fn_by_group" in e.prediction.extra]
    if not entries:
        return None
    names = comparison.group_names
    rows = []
    for entry in entries:
        errors = entry.prediction.extra["fp_fn_by_group"]
        for place, group in enumerate(names):
            pixels = errors["groups"][group]["pixels"]
            counts = [*(errors["mass"][group][other] for other in names), errors["groups"][group]["FP"]]
            shares = [score_cell(count / pixels if pixels else None, 2) for count in counts]
            rows.append([Cell("" if place else entry.label), Cell(group), *shares])
    return Table(
        title="Where wrong pixels go",
        columns=[("", ""), ("", "true group"), *(("lost to", name) for name in names), ("", "false positives")],
        rows=rows,
        caption="Percent of the true group's pixels. Head pixels lost to the tail are what a tail class gains in "
        "false positives.",
    )


def top_confusion_table(comparison: Comparison, count: int = 12) -> Table | None:
    """The most frequent confusions of the method in focus; works for any number of classes."""
    top = comparison.method.prediction.extra.get("top_confusions")
    if not top:
        return None
    names = comparison.class_names
    rows = [
        [
            *class_cells(comparison, truth),
            Cell(names[called], index=called),
            score_cell(pixels / total),
            count_cell(pixels),
        ]
        for truth, called, pixels, total in top[:count]
    ]
    columns = [("", name) for name in ("class", "group", "called", "% of its pixels", "pixels")]
    return Table(f"Largest confusions of {comparison.method.label}", columns, rows)


def correlation_table(comparison: Comparison) -> Table | None:
    """Pearson correlation of class frequency with the scores (MEDOE Table 10)."""
    entries = [e for e in comparison.whole if e.prediction.extra.get("pearson")]
    if not entries:
        return None
    metrics = list(entries[0].prediction.extra["pearson"])
    return Table(
        title="Correlation with frequency",
        columns=[("", ""), *(("Pearson ρ", metric) for metric in metrics)],
        rows=[[Cell(_label(e)), *(score_cell(e.prediction.extra["pearson"].get(m)) for m in metrics)] for e in entries],
        caption="Percent, between a class's share of the training pixels and its score; 0 means that frequency does "
        "not tell how well a class is segmented.",
    )


def class_table(comparison: Comparison) -> Table:
    """Every class with its group, frequency and scores, rarest last."""
    counts, unit = comparison.counts or (None, "")
    metrics = comparison.class_metrics
    rows = []
    for index, scores in _class_rows(comparison, metrics, comparison.order):
        count = [] if counts is None else [count_cell(counts[index])]
        rows.append([Cell(str(index), key=index), *class_cells(comparison, index), *count, *scores])
    columns = [("", "id"), ("", "class"), ("", "group"), *([] if counts is None else [("", unit.split(" (")[0])])]
    columns += [(metric, entry.label) for metric in metrics for entry in comparison.headline]
    return Table("", columns, rows, caption="Click a heading to sort.")


def extreme_classes_table(comparison: Comparison, *, best: bool = False, count: int = 10) -> Table:
    """The classes with the lowest score of the method in focus, or with the highest.

    Args:
        comparison: The runs. The score is the first per-class metric: IoU, or AP.
        best: Show the highest, best first; else the lowest, worst first.
        count: How many classes at most; never more than half of those with a score.
    """
    metric = comparison.class_metrics[0]
    values = comparison.values(comparison.method, metric)
    ranked = np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())]
    shown = ranked[:: -1 if best else 1][: max(1, min(count, len(ranked) // 2))]
    rows = [[*class_cells(comparison, i), *scores] for i, scores in _class_rows(comparison, [metric], shown)]
    columns = [("", "class"), ("", "group"), *((metric, entry.label) for entry in comparison.headline)]
    return Table(f"{'Best' if best else 'Worst'} classes by {metric}", columns, rows)


def calibration_table(comparison: Comparison) -> Table | None:
    """How often detections of each group are right, and how far that is from their scores; None for segmentation.

    The error is the mean over the detections of the distance between score and precision of their score interval
    (expected calibration error).
    """
    entries = [e for e in comparison.headline if "calibration" in e.prediction.extra]
    if not entries:
        return None
    rows = []
    for entry in entries:
        for place, group in enumerate(comparison.group_names):
            curve = entry.prediction.extra["calibration"][group]
            count, score, right = (np.array([v or 0.0 for v in curve[k]]) for k in ("count", "score", "precision"))
            total = float(count.sum())
            means = [float((count * v).sum() / total) if total else None for v in (score, right, abs(score - right))]
            cells = [count_cell(total), *(score_cell(mean, 2) for mean in means)]
            rows.append([Cell("" if place else entry.label), Cell(group), *cells])
    return Table(
        title="Calibration of box scores",
        columns=[("", ""), ("", "group"), *(("", c) for c in ("detections", "mean score", "right", "error"))],
        rows=rows,
        caption="Percent. Right: detections that overlap an object of their class by at least half.",
    )


def positives_table(comparison: Comparison) -> Table | None:
    """Foreground boxes of a batch that every stage learned from, by group (MEC §6); None where none were counted."""
    rows = []
    for run in comparison.runs:
        stages = run.results.training.get("positives", {})
        for place, (stage, counts) in enumerate(stages.items()):
            first = stages[next(iter(stages))]
            ratios = [counts.get(g, 0.0) / first[g] if first.get(g) else np.nan for g in comparison.group_names]
            numbers = [
                Cell(f"{counts.get(g, 0.0):.2f}", f"× {ratio:.3f}" if np.isfinite(ratio) else "", "muted")
                for g, ratio in zip(comparison.group_names, ratios, strict=True)
            ]
            rows.append([Cell("" if place else run.label), Cell(stage.replace("_", " ")), *numbers])
    if not rows:
        return None
    return Table(
        title="Foreground boxes of a training batch",
        columns=[("", ""), ("", "stage"), *(("", name) for name in comparison.group_names)],
        rows=rows,
        caption="Mean over the training; next to it the ratio to the first stage.",
    )


def _score_table(
    comparison: Comparison, title: str, keys: Sequence[tuple[str, str]], caption: str = "", uniform: bool = False
) -> Table:
    """A row for each way to predict, a column for each (metric, group); the best fair value of a column is strong."""
    entries = [e for e in comparison.whole if np.isfinite(_values([e], keys, uniform)).any()] or comparison.whole
    values = _values(entries, keys, uniform)
    fair = np.array([e.role != "oracle" for e in entries])
    base = next((row for e, row in zip(entries, values, strict=True) if e.role == "baseline"), None)
    rivals = np.isfinite(values) & fair[:, None]
    best = rivals & (values == np.where(rivals, values, -np.inf).max(axis=0)) & (rivals.sum(axis=0) > 1)
    rows = []
    for entry, row, strong in zip(entries, values, best, strict=True):
        gains = np.full(len(row), np.nan) if base is None or entry.role == "baseline" else row - base
        told = (
            [comparison.certainty.told(entry.label, metric, group) for metric, group in keys]
            if base is not None
            else []
        )
        cells = [
            _compared(value, gain, strong=bool(s), told=bool(told and told[place]))
            for place, (value, gain, s) in enumerate(zip(row, gains, strong, strict=True))
        ]
        rows.append([Cell(_label(entry)), *cells])
    columns = [(m, group) if m in comparison.group_metrics else ("", m) for m, group in keys]
    return Table(title, [("", ""), *columns], rows, caption, frozenset(np.flatnonzero(~fair).tolist()))


def _by_group(comparison: Comparison, metrics: Sequence[str]) -> list[tuple[str, str]]:
    return [(metric, group) for metric in metrics for group in ("all", *comparison.group_names)]


def _parts(comparison: Comparison, uniform: bool) -> list[list[str]]:
    """Metrics that the same ways to predict have, so many that a table of them fits on a page."""
    had_by: dict[tuple[str, ...], list[str]] = {}
    for metric in comparison.group_metrics:
        keys = _by_group(comparison, [metric])
        who = (e.label for e in comparison.whole if np.isfinite(_values([e], keys, uniform)).any())
        had_by.setdefault(tuple(who), []).append(metric)
    parts = []
    for metrics in had_by.values():
        size = _FEW if len(metrics) <= _FEW else 2
        parts += [metrics[start : start + size] for start in range(0, len(metrics), size)]
    return parts


def _values(entries: Sequence[Entry], keys: Sequence[tuple[str, str]], uniform: bool = False) -> np.ndarray:
    scores = [[entry.score(metric, group, uniform=uniform) for metric, group in keys] for entry in entries]
    return np.array(scores, dtype=np.float64).reshape(len(entries), len(keys))


def _caption(comparison: Comparison) -> str:
    sentences = ["Percent", ", ".join(_sizes(comparison))]
    if comparison.groups_from:
        sentences.append(f"Groups: {comparison.groups_from}")
    if comparison.baseline is not None:
        sentences.append(
            f"Small numbers: difference to {comparison.baseline.label}, coloured where its interval leaves out 0"
        )
    if comparison.of("oracle"):
        sentences.append("† chooses the expert by the true label: a bound, not a method")
    return ". ".join(sentences) + "."


def _sizes(comparison: Comparison) -> Iterator[str]:
    """How many classes each group has, and how many of them have a score where these are fewer."""
    scored = np.isfinite(comparison.values(comparison.method, next(iter(comparison.class_metrics), "")))
    for name, members in zip(comparison.groups.names, comparison.groups.members, strict=True):
        of, size = int(scored[list(members)].sum()), counted(len(members), "class")
        if members:
            yield f"{name}: {f'{of} of ' if 0 < of < len(members) else ''}{size}"


def _shaded(values: np.ndarray, metric: str) -> list[Cell]:
    """One column, the best value deepest."""
    filled = values[np.isfinite(values)]
    low, span = (filled.min(), np.ptp(filled)) if len(filled) else (0.0, 0.0)
    cells = []
    for value in values.tolist():
        if not np.isfinite(value):
            cells.append(Cell("–"))
            continue
        shade = float((value - low) / span) if span > 0 else 0.0
        if metric == "bias":
            cells.append(Cell(f"{value:.3f}", shade=1 - shade, key=value))
        else:
            cells.append(Cell(percent(value), shade=shade, key=value))
    return cells


def _class_rows(
    comparison: Comparison, metrics: Sequence[str], classes: np.ndarray
) -> Iterator[tuple[int, list[Cell]]]:
    """Each class with its scores of the headline's entries, metric by metric."""
    columns = []
    for metric in metrics:
        base = comparison.baseline and comparison.values(comparison.baseline, metric)
        for entry in comparison.headline:
            values = comparison.values(entry, metric)
            columns.append((values, values * np.nan if base is None or entry.role == "baseline" else values - base))
    for index in classes.tolist():
        yield index, [_compared(values[index], gains[index], digits=1) for values, gains in columns]


def _compared(value: float, gain: float, *, digits: int = 2, strong: bool = False, told: bool = True) -> Cell:
    key = float(value) if np.isfinite(value) else None
    numbers = {"gain": float(gain)} if np.isfinite(gain) else {}
    colour = tone(gain, digits) if told else "muted"
    return Cell(percent(value, digits), signed(gain, digits), colour, strong, key=key, numbers=numbers)


def class_cells(comparison: Comparison, index: int) -> list[Cell]:
    """Name and group of a class."""
    return [Cell(comparison.class_names[index], index=index), Cell(comparison.group_name(index))]


def _label(entry: Entry) -> str:
    return f"{entry.label} †" if entry.role == "oracle" else entry.label
