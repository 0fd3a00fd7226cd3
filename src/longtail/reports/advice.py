"""What would help each failing class: numbers of its data and of the recorded ways to predict, and what to try next."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from longtail.reports.cells import Cell, Table, count_cell, score_cell
from longtail.reports.comparison import Comparison
from longtail.reports.error_tables import numbers
from longtail.reports.tables import class_cells

_FAILING = 0.5  # of the mean over all classes
_SHOWN = 40
_LEAST = 0.01  # a smaller gain is no reason to try anything
_MORE = 1.3  # times as many pixels near a boundary as usual
_WHOLE = 0.5  # share of a class's pixels: whole objects are lost
_SMALL = 32  # pixels: one cell of a feature map of stride 32
#: Kind of error -> what costs, and what to try.
_KINDS = {
    "classification": (
        "confusions with other classes",
        "re-train the classifier alone with balanced sampling (`--train_only classifier`)",
    ),
    "localisation": ("badly placed detections", "larger images, or a stage of a higher IoU"),
    "both": ("badly placed detections of another class", "larger images and a balanced classifier"),
    "duplicate": ("second detections of its objects", "a lower overlap for non-maximum suppression"),
    "background": (
        "detections on nothing",
        "its own threshold (`predict --thresholds`), or images without it that show what it is taken for",
    ),
    "missed": ("missed objects", "more examples of it (repeat-factor sampling, more labels)"),
}


@dataclass(frozen=True)
class Idea:
    """One thing to try for a class.

    Args:
        words: What to try, with the numbers that speak for it.
        gain: Expected gain of the class's score, as a fraction.
        measured: Whether a recorded way to predict reaches it; else it is a bound or an extrapolation.
    """

    words: str
    gain: float
    measured: bool


def failing_classes(comparison: Comparison) -> list[int]:
    """Classes whose score is below half of the mean, the worst first; of equal ones the rarest."""
    if not comparison.class_metrics:
        return []
    values = comparison.values(comparison.method, comparison.class_metrics[0])
    if not np.isfinite(values).any():
        return []
    rarest_first = comparison.order[::-1]
    order = rarest_first[np.argsort(values[rarest_first], kind="stable")]
    return [c for c in order.tolist() if values[c] < _FAILING * np.nanmean(values)]


def advice_table(comparison: Comparison, limit: int | None = _SHOWN) -> Table | None:
    """Each failing class with its data's part, its model's part and what to try; None where no class fails."""
    failing = failing_classes(comparison)[:limit]
    if not failing:
        return None
    metric = comparison.class_metrics[0]
    values = comparison.values(comparison.method, metric)
    counts, unit = comparison.counts or (None, "")
    shown = comparison.method.prediction.extra.get("shown", {})
    slope = data_slope(comparison)
    several = any(_best_readout(comparison, index) is not None for index in failing)
    rows = []
    for index in failing:
        ideas = sorted(ideas_for(comparison, index, slope), key=lambda idea: (not idea.measured, -idea.gain))
        facts = [count_cell(shown[key][index]) for key in ("images", "side", "contexts")] if shown else []
        best = _best_readout(comparison, index)
        name, group = class_cells(comparison, index)
        rows.append(
            [
                name,
                Cell(_sentence(ideas)),
                group,
                score_cell(values[index]),
                *([] if counts is None else [count_cell(counts[index])]),
                *facts,
                *([_best_cell(best)] if several else []),
            ]
        )
    columns = [("", "class"), ("", "what to try"), ("", "group"), ("", metric)]
    columns += [] if counts is None else [("", unit.split(" (")[0])]
    columns += [("evaluated", name) for name in ("images", "side, px", "contexts")] if shown else []
    columns += [("", f"best {metric} recorded")] if several else []
    caption = (
        f"Classes below half of the mean {metric}. Side: median over its objects, or images, of the root of the area. "
        "Contexts: other classes in its images. Measured gains are of the evaluated images themselves: of a class with few "
        "images they may be luck. Bounds assume that nothing else changes."
    )
    return Table("What would help", columns, rows, caption)


def ideas_for(comparison: Comparison, index: int, slope: "Slope | None") -> Iterator[Idea]:
    """Everything that numbers speak for."""
    metric, own = comparison.class_metrics[0], comparison.method
    value = comparison.values(own, metric)[index]
    for entry in comparison.entries:
        if entry is own or entry.run is not own.run:
            continue
        gain = comparison.values(entry, metric)[index] - value
        if gain >= _LEAST:
            group = comparison.group_name(index)
            whole = entry.score(comparison.group_metrics[0], group) - own.score(comparison.group_metrics[0], group)
            words = f"read as {entry.label} it has {_points(value + gain)} {metric}: {_signed(gain)}"
            if entry.role == "oracle":
                words = f"one of the experts knows it, {_signed(gain)} {metric} by the oracle: another ensemble"
            elif np.isfinite(whole):
                words += f" (its whole group: {_signed(whole)})"
            yield Idea(words, float(gain), measured=entry.role != "oracle")
    errors = own.prediction.extra.get("errors")
    if errors:
        costs = {kind: numbers(of)[index] for kind, of in errors["cost"].items()}
        kind = max(costs, key=lambda k: np.nan_to_num(costs[k]))
        if np.nan_to_num(costs[kind]) >= _LEAST:
            (what, remedy), number = _KINDS[kind], _errors_of(comparison, errors, kind, index)
            words = f"{what} cost up to {_points(costs[kind])} AP50 ({number}): {remedy}"
            yield Idea(words, float(costs[kind]), measured=False)
    yield from _of_pixels(comparison, index)
    shown = own.prediction.extra.get("shown")
    if shown and 0 < shown["side"][index] < _SMALL:
        side = shown["side"][index]
        words = f"its side is {side:.0f} px, below one cell of a feature map of stride {_SMALL}: larger images or crops"
        yield Idea(words, 0.0, measured=False)
    if slope is not None and slope.gain >= _LEAST and comparison.counts is not None:
        count, unit = comparison.counts[0][index], comparison.counts[1].split(" (")[0]
        words = (
            f"twice its {int(count):,} {unit}: {_signed(slope.gain)} expected from the slope over {slope.classes} classes "
            f"(r {slope.correlation:.2f})"
        )
        yield Idea(words, slope.gain, measured=False)


def _errors_of(comparison: Comparison, errors: Mapping[str, Any], kind: str, index: int) -> str:
    """How many errors of a kind there are; of classification those on objects of the class, and those that claim it."""
    number = f"{errors['counts'][kind][index]:,}"
    if kind != "classification":
        return number
    pair = next((p for p in errors["confused"] if p[1] == index), None)
    most = "" if pair is None else f", most as {comparison.class_names[pair[0]]}: {pair[2]}"
    return f"{errors['lost'][index]:,} on its objects{most}; {number} of it on others"


def _of_pixels(comparison: Comparison, index: int) -> Iterator[Idea]:
    """Pixels that one other class takes, and whether near a boundary."""
    extra = comparison.method.prediction.extra
    row = next((r for r in extra.get("flows", {}).get("classes", ()) if r[0] == index), None)
    if row is None or not extra.get("class_pixels", [0])[index]:
        return
    _, called, wrong, near = row
    pixels = extra["class_pixels"][index]
    share, usual = wrong / pixels, extra["class_band"][index] / pixels
    if share < _LEAST:
        return
    at_boundaries = near / wrong > _MORE * usual and share < _WHOLE  # small objects lie near their boundary altogether
    remedy = "sharper maps (boundaries)" if at_boundaries else "a loss or classifier that tells the two apart"
    words = (
        f"{_points(share)} % of its pixels are called {comparison.class_names[called]}; {100 * near / wrong:.0f} % of these "
        f"lie near a boundary, of all its pixels {100 * usual:.0f} %: {remedy}"
    )
    yield Idea(words, float(share), measured=False)


@dataclass(frozen=True)
class Slope:
    """What twice the data give, by a line through the scores of all classes over the logarithm of their counts.

    Args:
        gain: Expected gain of a class with twice the data, as a fraction.
        correlation: Pearson's, of score and logarithm.
        classes: Number of classes that the line is drawn through.
    """

    gain: float
    correlation: float
    classes: int


def data_slope(comparison: Comparison) -> Slope | None:
    """The line through the classes' scores.

    None where fewer than three have both, all have the same count, or the correlation is less than two of its standard
    errors: frequency then does not tell the score.
    """
    if comparison.counts is None or not comparison.counts[1].startswith("training"):
        return None
    values = comparison.values(comparison.method, comparison.class_metrics[0])
    known = np.isfinite(values) & (comparison.counts[0] > 0)
    x, y = np.log2(comparison.counts[0][known]), values[known]
    if known.sum() < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    classes, correlation = int(known.sum()), float(np.corrcoef(x, y)[0, 1])
    if correlation**2 * (classes - 2) < 4 * (1 - correlation**2):
        return None
    return Slope(float(np.polyfit(x, y, 1)[0]), correlation, classes)


def _best_readout(comparison: Comparison, index: int) -> tuple[str, float] | None:
    metric, run = comparison.class_metrics[0], comparison.method.run
    scores = {e.label: comparison.values(e, metric)[index] for e in comparison.entries if e.run is run}
    known = {label: float(value) for label, value in scores.items() if np.isfinite(value)}
    if len(known) < 2:
        return None
    best = max(known, key=lambda label: known[label])
    return best, known[best]


def _best_cell(best: tuple[str, float] | None) -> Cell:
    return Cell("–") if best is None else Cell(score_cell(best[1]).text, best[0], "muted", key=best[1])


def _sentence(ideas: Sequence[Idea]) -> str:
    """The best idea, and the next one that is not of the same kind of evidence."""
    if not ideas:
        return "–"
    others = [idea for idea in ideas[1:] if not idea.measured]
    return ". ".join(_capital(idea.words) for idea in (ideas[0], *others[:1])) + "."


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")
