"""The sections of the HTML report, in order; each is a function of the comparison and may have nothing to show."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from longtail.frequency import CategoryGroups
from longtail.reports import detection_plots, plots, tables
from longtail.reports.changes import changed_rows
from longtail.reports.comparison import Comparison, Entry
from longtail.reports.detection_tables import calibration_table
from longtail.reports.pictures import PictureRow, picture_rows
from longtail.reports.tables import Tone, signed


@dataclass(frozen=True)
class Card:
    """One number of the summary."""

    label: str
    value: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Block:
    """A part of a section; the template has a macro for each kind."""

    kind: Literal["cards", "heading", "table", "long_table", "plot", "pictures", "provenance"]
    content: Any


@dataclass(frozen=True)
class Section:
    """A titled part of the page.

    Args:
        name: Its anchor.
        title: Its heading.
        lead: A sentence or two on how to read it.
        blocks: What it shows, from top to bottom.
    """

    name: str
    title: str
    lead: str = ""
    blocks: list[Block] = field(default_factory=list)


def summary(comparison: Comparison) -> Section:
    """The numbers to remember."""
    results, method, base = comparison.focus.results, comparison.method, comparison.baseline
    metrics = comparison.group_metrics[:2]
    tail = _rarest_group(comparison.groups)
    wanted = [("", metric) for metric in metrics] + ([(tail, metric) for metric in metrics] if tail else [])
    cards = []
    for group, metric in wanted:
        value, before = _score(method, group, metric), None if base is None else _score(base, group, metric)
        gain = None if value is None or before is None else value - before
        note = "" if gain is None else f"{signed(gain)} vs {base.label if base else ''}"
        tone: Tone = "muted" if gain is None or abs(gain) < 5e-5 else "good" if gain > 0 else "bad"
        cards.append(Card(f"{group} {metric}".strip(), tables.percent(value), note, tone))
    cards += _data_cards(comparison)
    lead = f"{method.label} on {_data_name(results.data)}." + _verdict(comparison)
    return Section("summary", "Summary", lead, [Block("cards", cards)])


def by_group(comparison: Comparison) -> Section:
    """Group table and bars."""
    blocks = [Block("table", table) for table in tables.group_tables(comparison)]
    if bars := plots.group_bars(comparison):
        blocks.append(Block("plot", bars))
    if further := tables.overall_table(comparison):
        blocks.append(Block("table", further))
    if weights := detection_plots.score_against_weight(comparison):
        blocks.append(Block("plot", weights))
    return Section("groups", "Rare against frequent", "", blocks)


def frequency(comparison: Comparison) -> Section | None:
    """How long the tail is."""
    histogram = plots.frequency_histogram(comparison)
    if histogram is None:
        return None
    lead = "Occurrences of every class on a logarithmic scale, most frequent first. Hover over a bar for the class."
    return Section("frequency", "How often each class occurs", lead, [Block("plot", histogram)])


def by_class(comparison: Comparison) -> Section | None:
    """Scores of single classes."""
    if not comparison.class_metrics:
        return None
    candidates = [plots.score_against_frequency(comparison), plots.gain_bars(comparison)]
    blocks = [Block("plot", svg) for svg in candidates if svg]
    blocks += [Block("table", tables.extreme_classes_table(comparison, best=best)) for best in (False, True)]
    if correlation := tables.correlation_table(comparison):
        blocks.append(Block("table", correlation))
    lead = "Each class against its frequency, and what the method changed for it."
    return Section("classes", "Class by class", lead, blocks)


def confusions(comparison: Comparison) -> Section | None:
    """Where the pixels of the worst classes go."""
    shown = [e for e in (comparison.baseline, comparison.method) if e is not None]
    maps = [svg for entry in shown if (svg := plots.confusion_heat_map(comparison, entry))]
    blocks = [Block("plot", svg) for svg in maps]
    further = [tables.group_error_table(comparison), tables.top_confusion_table(comparison)]
    blocks += [Block("table", table) for table in further if table]
    if not blocks:
        return None
    lead = "Rows: the true class, worst first; columns: what its pixels were called, in percent of the row."
    return Section("confusion", f"Confusion{' among the worst classes' if maps else ''}", lead if maps else "", blocks)


def changes(comparison: Comparison) -> Section | None:
    """Pictures of what the method gained and lost."""
    if comparison.task != "detection" or comparison.baseline is None:
        return None
    gains, losses = changed_rows(comparison)
    if not gains and not losses:
        return None
    lead = (
        f"The images on which {comparison.method.label} finds more of the objects than {comparison.baseline.label}, then "
        "those on which it finds fewer, rare classes weighing more. As many detections are drawn as there are objects: "
        "those that are right in the colour of their class, the others grey."
    )
    titled = (("Largest gains", gains), ("Largest losses", losses))
    blocks = [block for words, rows in titled if rows for block in (Block("heading", words), Block("pictures", rows))]
    return Section("changes", "Gains and losses", lead, blocks)


def qualitative(comparison: Comparison) -> Section | None:
    """Pictures."""
    rows: list[PictureRow] = picture_rows(comparison)
    if not rows:
        return None
    lead = "Colours are classes; below each row are the rarest classes of its truth. "
    if comparison.task == "segmentation":
        lead += "Dark pixels carry no label."
    else:
        lead += "As many detections are drawn as there are objects, those with the best scores."
    return Section("pictures", "Pictures", lead, [Block("pictures", rows)])


def experts(comparison: Comparison) -> Section | None:
    """What each expert is good at."""
    table = tables.expert_table(comparison)
    if table is None:
        return None
    word = "stage" if comparison.of("expert")[0].name.startswith("stage") else "expert"
    lead = f"Each {word} read on its own, beside the method that combines them."
    curves = detection_plots.stage_curves(comparison)
    blocks = [*([Block("plot", curves)] if curves else []), Block("table", table)]
    return Section("experts", f"{word.capitalize()}s", lead, blocks)


def calibration(comparison: Comparison) -> Section | None:
    """Whether scores mean the same for rare and frequent classes."""
    table = calibration_table(comparison)
    if table is None:
        return None
    lead = (
        "The score of a detection against how often it is right, by group: below the diagonal, detections are less often "
        "right than their score says. One threshold serves all groups only where their curves agree."
    )
    curves = detection_plots.reliability(comparison)
    blocks = [*([Block("plot", curves)] if curves else []), Block("table", table)]
    return Section("calibration", "Scores by group", lead, blocks)


def uniform(comparison: Comparison) -> Section | None:
    """Scores as if every class had equally many pixels."""
    if not comparison.method.prediction.extra.get("uniform"):
        return None
    lead = (
        "The expected scores if the test set had equally many pixels of every class: each row of the confusion matrix "
        "is divided by its sum. Accuracies by class do not change; frequent classes no longer drown the IoU of rare ones."
    )
    return Section("uniform", "Uniform test set", lead, [Block("table", tables.group_table(comparison, uniform=True))])


def every_class(comparison: Comparison) -> Section:
    """The whole table."""
    return Section("table", "Every class", "", [Block("long_table", tables.class_table(comparison))])


def provenance(comparison: Comparison) -> Section:
    """What it takes to find these numbers again."""
    rows = []
    for run in comparison.runs:
        results = run.results
        facts = {
            "results": str(run.source),
            "method": results.method,
            "seed": results.seed,
            "data": results.data,
            "settings": results.settings,
            "environment": results.environment,
        }
        rows.append((run.label, json.dumps(facts, indent=2, ensure_ascii=False)))
    return Section("provenance", "How to find these numbers again", "", [Block("provenance", rows)])


#: What a report shows. A section for one task returns None for the other.
SECTIONS: tuple[Callable[[Comparison], Section | None], ...] = (
    summary,
    by_group,
    frequency,
    by_class,
    confusions,
    changes,
    qualitative,
    experts,
    calibration,
    uniform,
    every_class,
    provenance,
)


def warnings(comparison: Comparison) -> list[str]:
    """What makes the comparison doubtful."""
    found = comparison.doubts
    if comparison.groups_from.startswith("the labels scored"):
        found.append("Groups come from the evaluated labels, since no training frequency was given.")
    return found


def _rarest_group(groups: CategoryGroups) -> str:
    """The group of the rarest classes by its name, else the last with any class; empty if there is one group."""
    filled = [name for name, size in zip(groups.names, groups.sizes, strict=True) if size]
    named = [name for name in filled if name in ("tail", "rare", "few")]
    return (named or filled[-1:])[0] if len(filled) > 1 else ""


def _score(entry: Entry, group: str, metric: str) -> float | None:
    prediction = entry.prediction
    return (prediction.groups.get(group, {}) if group else prediction.overall).get(metric)


def _data_name(data: dict[str, Any]) -> str:
    name, split = str(data.get("name") or "the evaluated data"), data.get("split")
    return f"{name} ({split})" if split else name


def _data_cards(comparison: Comparison) -> list[Card]:
    cards = []
    if images := comparison.focus.results.data.get("images"):
        cards.append(Card("images", f"{images:,}" if isinstance(images, int) else str(images)))
    sizes = " / ".join(str(size) for size in comparison.groups.sizes)
    cards.append(Card("classes", str(len(comparison.class_names)), f"{' / '.join(comparison.groups.names)}: {sizes}"))
    if comparison.counts is not None:
        counts, unit = comparison.counts
        present = counts[counts > 0]
        if len(present) > 1:
            ratio = present.max() / present.min()
            cards.append(Card("imbalance", f"{ratio:,.0f} : 1", f"most to least frequent, {unit.split(' (')[0]}"))
    return cards


def _verdict(comparison: Comparison) -> str:
    """What changed for how many classes, and how far the oracle is."""
    words = ""
    metric = comparison.class_metrics[0] if comparison.class_metrics else None
    if comparison.baseline is not None and metric is not None:
        gain = comparison.values(comparison.method, metric) - comparison.values(comparison.baseline, metric)
        up, down = int(np.sum(gain > 0.01)), int(np.sum(gain < -0.01))
        words += (
            f" Against {comparison.baseline.label}, {up} class{'es' * (up != 1)} gained more than one point of {metric} "
            f"and {down} lost more than one."
        )
    headline = comparison.group_metrics[0] if comparison.group_metrics else None
    if comparison.oracle is not None and headline is not None:
        bound, own = _score(comparison.oracle, "", headline), _score(comparison.method, "", headline)
        if bound is not None and own is not None:
            words += f" Choosing the right expert everywhere would give {tables.percent(bound)} {headline}."
    return words
