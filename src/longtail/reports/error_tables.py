"""Tables that say why a run fails: errors by kind, operating points, flows of pixels, intervals."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from longtail.metrics.draws import ALL, Interval
from longtail.metrics.group_means import group_means, mean
from longtail.reports.cells import Cell, Table, Tone, count_cell, score_cell, signed
from longtail.reports.certainty import FEWEST_IMAGES
from longtail.reports.comparison import Comparison, Entry
from longtail.reports.tables import class_cells

_MINUS = "−"
_WORST = 40  # classes of a table on the page


def interval_table(comparison: Comparison) -> Table | None:
    """Differences to the baseline with their intervals; of one run, its scores with theirs. None without any."""
    certainty = comparison.certainty
    of = certainty.gains if comparison.baseline is not None else certainty.alone
    rows = []
    for label, metrics in of.items():
        for place, (metric, groups) in enumerate(metrics.items()):
            cells = [
                _interval(groups.get(group), _known(comparison, label, metric, group), comparison)
                for group in (ALL, *comparison.group_names)
            ]
            rows.append([Cell("" if place else label), Cell(metric), *cells])
    if not rows:
        return None
    many = f"{certainty.images} images, {comparison.draws[0]:,} draws of them with replacement"
    few = f" Fewer than {FEWEST_IMAGES} images tell nothing." if certainty.images < FEWEST_IMAGES else ""
    if comparison.baseline is None:
        title, words = "Scores with their intervals", ""
    else:
        title = f"Differences to {comparison.baseline.label} with their intervals"
        words = " Coloured: the interval leaves out 0."
    columns = [("", ""), ("", "metric"), *(("", name) for name in (ALL, *comparison.group_names))]
    caption = (
        f"Points, 95 % intervals: {many}, the same for all. A draw without a class leaves "
        f"it out of the means, so that intervals of rare classes may lie to one side.{words}{few}"
    )
    return Table(title, columns, rows, caption)


def error_group_table(comparison: Comparison) -> Table | None:
    """AP50 that each kind of error costs, by group; None where no detections were diagnosed."""
    entries = [e for e in comparison.headline if "errors" in e.prediction.extra]
    if not entries:
        return None
    rows = []
    for entry in entries:
        cost = entry.prediction.extra["errors"]["cost"]
        counts = entry.prediction.extra["errors"]["counts"]
        for place, (kind, values) in enumerate(cost.items()):
            array = numbers(values)
            means = {ALL: mean(array), **group_means(array, comparison.groups)}
            cells = [score_cell(means[group]) for group in (ALL, *comparison.group_names)]
            rows.append([Cell("" if place else entry.label), Cell(kind), count_cell(sum(counts[kind])), *cells])
    return Table(
        "What each kind of error costs",
        [("", ""), ("", "kind"), ("", "errors"), *(("AP50 lost to it", g) for g in (ALL, *comparison.group_names))],
        rows,
        "Points of AP50 that would be gained if the errors of this kind alone were mended (TIDE). Costs overlap: they do "
        "not add up.",
    )


def error_class_table(comparison: Comparison, limit: int | None = _WORST) -> Table | None:
    """AP50 that each kind of error costs the classes that lose most, and for what they are taken."""
    extra = comparison.method.prediction.extra
    if "errors" not in extra:
        return None
    cost = {kind: numbers(values) for kind, values in extra["errors"]["cost"].items()}
    taken = _most_taken(extra["errors"]["confused"])
    total = np.nan_to_num(np.stack(list(cost.values()))).max(axis=0)
    order = [c for c in np.argsort(-total, kind="stable").tolist() if np.isfinite(next(iter(cost.values()))[c])]
    rows = []
    for index in order[:limit]:
        to = taken.get(index)
        name = (
            Cell("")
            if to is None
            else Cell(comparison.class_names[to[0]], f"× {to[1]}", "muted", index=to[0], numbers={"times": to[1]})
        )
        rows.append([*class_cells(comparison, index), *(score_cell(v[index]) for v in cost.values()), name])
    columns = [("", "class"), ("", "group"), *(("AP50 lost to", kind) for kind in cost), ("", "most often taken for")]
    return Table(f"Classes that lose most, {comparison.method.label}", columns, rows).filled


def operating_table(comparison: Comparison, limit: int | None = None) -> Table | None:
    """Threshold of the best F1 of every class, and what it gives."""
    points = comparison.method.prediction.extra.get("operating_points")
    if not points:
        return None
    values = {key: numbers(of) for key, of in points.items()}
    order = [c for c in comparison.order[::-1].tolist() if np.isfinite(values["default_ap"][c])]
    rows = []
    for index in order[:limit]:
        threshold = values["threshold"][index]
        known = np.isfinite(threshold)
        first = Cell(f"{threshold:.2f}" if known else "–", key=float(threshold) if known else None)
        rest = [score_cell(values[key][index]) for key in ("precision", "recall", "f1", "default_ap")]
        rows.append([*class_cells(comparison, index), first, *rest])
    names = ("threshold", "precision", "recall", "F1", "AP50 from 0.3")
    caption = (
        "Percent at IoU 0.5, at the threshold of the best F1; rarest first. – : no detection of the class is right. "
        "Last: AP50 of the detections that score 0.3 or more, which `longtail predict` draws."
    )
    return Table("Thresholds of the best F1", [("", "class"), ("", "group"), *(("", n) for n in names)], rows, caption)


def flow_table(comparison: Comparison) -> Table | None:
    """Wrong pixels from group to group, and how many of them lie next to a boundary; None without."""
    entries = [e for e in comparison.headline if "flows" in e.prediction.extra]
    if not entries:
        return None
    names, rows = comparison.group_names, []
    for entry in entries:
        flows = entry.prediction.extra["flows"]
        for place, true in enumerate(names):
            all_ = pixels_of_group(entry, true)
            cells = []
            for called in names:
                pixels, near = flows["groups"][true][called]
                share = pixels / all_ if all_ else None
                cell = score_cell(share, 2)
                note = f"{100 * near / pixels:.0f} % near" if pixels else ""
                cells.append(replace(cell, note=note, tone="muted", numbers={"near": near / pixels} if pixels else {}))
            rows.append([Cell("" if place else entry.label), Cell(true), count_cell(all_), *cells])
    band = 100 * entries[0].prediction.extra["flows"]["band"]
    return Table(
        "Where the pixels of each group go",
        [("", ""), ("", "true group"), ("", "pixels"), *(("wrong, called a class of", name) for name in names)],
        rows,
        f"Percent of the true group's pixels. Near: of these, within {band:g} % of the image's diagonal from a boundary "
        "of the label; the others lie inside.",
    )


def taker_table(comparison: Comparison, limit: int | None = _WORST) -> Table | None:
    """For every class, rarest first, the classes that take most of its pixels."""
    flows = comparison.method.prediction.extra.get("flows")
    if not flows:
        return None
    by_class: dict[int, list[list[int]]] = {}
    for row in flows["classes"]:
        by_class.setdefault(row[0], []).append(row)
    iou, boundary = (comparison.values(comparison.method, name) for name in ("IoU", "boundary_IoU"))
    pixels = numbers(comparison.method.prediction.extra.get("class_pixels", [None] * len(iou)))
    rows = []
    for index in [c for c in comparison.order[::-1].tolist() if c in by_class][:limit]:
        named = [_taker(comparison, row, pixels[index]) for row in by_class[index][:3]]
        scores = [score_cell(iou[index]), score_cell(boundary[index])]
        rows.append([*class_cells(comparison, index), *scores, *named, *[Cell("")] * (3 - len(named))])
    columns = [("", name) for name in ("class", "group", "IoU", "boundary IoU")]
    columns += [("most pixels go to", name) for name in ("called", "called", "called")]
    caption = "Rarest first. After a name: percent of the class's pixels, and how many of them lie near a boundary."
    return Table("Classes that take the pixels", columns, rows, caption)


def pixels_of_group(entry: Entry, group: str) -> int:
    """Evaluated pixels of a true group."""
    return int(entry.prediction.extra["fp_fn_by_group"]["groups"][group]["pixels"])


def numbers(values: Any) -> np.ndarray:
    """float64 array with NaN for None."""
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _taker(comparison: Comparison, row: list[int], pixels: float) -> Cell:
    _, called, wrong, near = row
    known = np.isfinite(pixels) and pixels > 0
    words = f"{100 * wrong / pixels:.0f} %" if known else f"{wrong:,} px"
    said = {"share": wrong / pixels if known else np.nan, "near": near / wrong}
    note = f"{words}, {100 * near / wrong:.0f} % near"
    return Cell(comparison.class_names[called], note, "muted", index=called, numbers=said)


def _most_taken(confused: list[list[int]]) -> Mapping[int, tuple[int, int]]:
    """True class -> the class that most of its wrongly classified detections claim, and how many."""
    found: dict[int, tuple[int, int]] = {}
    for claimed, true, count in confused:  # most frequent first
        found.setdefault(true, (claimed, count))
    return found


def _known(comparison: Comparison, label: str, metric: str, group: str) -> float:
    """A score, or its difference to the baseline, of all images as they are."""
    entry = next(e for e in comparison.of("baseline", "method") if e.label == label)
    base = comparison.baseline
    return entry.score(metric, group) - (0.0 if base is None else base.score(metric, group))


def _interval(interval: Interval | None, value: float, comparison: Comparison) -> Cell:
    if interval is None:
        return Cell("–")
    compared = comparison.baseline is not None
    low, high = (f"{100 * end:.2f}".replace("-", _MINUS) for end in (interval.low, interval.high))
    told = compared and interval.told_from_chance and comparison.certainty.images >= FEWEST_IMAGES
    tone: Tone = "muted" if not told else "good" if interval.low > 0 else "bad"
    text = signed(value) if compared else f"{100 * value:.2f}"
    ends = {"low": interval.low, "high": interval.high}
    return Cell(text, f"{low} … {high}", tone, key=float(value), numbers=ends)
