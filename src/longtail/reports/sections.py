"""The sections of the HTML report, in order; each is a function of the comparison and may have nothing to show."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from longtail.metrics.draws import ALL
from longtail.reports import advice, detection_plots, error_plots, error_tables, plots, tables
from longtail.reports.cells import Tone, percent, signed, tone
from longtail.reports.certainty import FEWEST_IMAGES
from longtail.reports.comparison import Comparison
from longtail.reports.dial import dial_curves
from longtail.reports.pictures import failure_rows, picture_rows

Kind = Literal["cards", "heading", "table", "long_table", "filtered", "plot", "pictures", "provenance"]


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

    kind: Kind
    content: Any


@dataclass(frozen=True)
class Section:
    """A titled part of the page.

    Args:
        name: Its anchor, after that of its task.
        title: Its heading.
        lead: A sentence or two on how to read it.
        blocks: Its content, from top to bottom.
    """

    name: str
    title: str
    lead: str = ""
    blocks: list[Block] = field(default_factory=list)


def summary(comparison: Comparison) -> Section:
    """The numbers to remember."""
    method, base = comparison.method, comparison.baseline
    metrics, filled = comparison.group_metrics[:2], comparison.group_names
    cards = []
    for group in [ALL, *([_rarest(comparison)] if len(filled) > 1 else [])]:
        for metric in metrics:
            value = method.score(metric, group)
            gain = np.nan if base is None else value - base.score(metric, group)
            note = f"{signed(gain)} vs {base.label}" if base is not None and np.isfinite(gain) else ""
            name = metric if group == ALL else f"{group} {metric}"
            told = comparison.certainty.told(method.label, metric, group) if base is not None else False
            cards.append(Card(name, percent(value), note, tone(gain) if told else "muted"))
    data = comparison.focus.results.data
    name, split = str(data.get("name") or "the evaluated data"), data.get("split")
    lead = f"{method.label} on {f'{name} ({split})' if split else name}.{_verdict(comparison)}"
    return Section("summary", "Summary", lead, [Block("cards", cards + _data_cards(comparison))])


def by_group(comparison: Comparison) -> Section:
    """Group table and bars."""
    blocks: list[tuple[Kind, Any]] = [("table", table) for table in tables.group_tables(comparison)]
    blocks += [("plot", plots.group_bars(comparison)), ("table", tables.overall_table(comparison))]
    blocks.append(("table", error_tables.interval_table(comparison)))
    blocks.append(("plot", detection_plots.score_against_weight(comparison)))
    return Section("groups", "Rare against frequent", "", _shown(blocks))


def errors(comparison: Comparison) -> Section | None:
    """Why detections are wrong."""
    lead = (
        "Each wrong detection has one kind: badly placed (localisation), of another class (classification), a duplicate, "
        "on nothing (background), or both badly placed and of another class; objects that nobody found are missed."
    )
    return _section(
        "errors",
        "Why detections are wrong",
        lead,
        ("plot", error_plots.error_bars(comparison)),
        ("table", error_tables.error_group_table(comparison)),
        ("table", error_tables.error_class_table(comparison)),
    )


def flows(comparison: Comparison) -> Section | None:
    """Where wrong pixels go."""
    lead = (
        "Pixels that are lost near a boundary ask for sharper maps, those lost inside an object for another class: the "
        "whole object is taken for something else."
    )
    return _section(
        "flows",
        "Where wrong pixels go",
        lead,
        ("plot", error_plots.flow_bars(comparison)),
        ("table", error_tables.flow_table(comparison)),
        ("table", error_tables.taker_table(comparison)),
    )


def operating_points(comparison: Comparison) -> Section | None:
    """Where to cut the scores."""
    lead = "Means over the classes of a group. A detector that acts on what it sees wants a threshold for each class."
    return _section(
        "thresholds",
        "Thresholds",
        lead,
        ("plot", error_plots.curves(comparison)),
        ("filtered", error_tables.operating_table(comparison)),
    )


def frequency(comparison: Comparison) -> Section | None:
    """How long the tail is."""
    lead = "Occurrences of every class on a logarithmic scale, most frequent first. Hover over a bar for the class."
    return _section("frequency", "How often each class occurs", lead, ("plot", plots.frequency_histogram(comparison)))


def by_class(comparison: Comparison) -> Section | None:
    """Scores of single classes."""
    if not comparison.class_metrics:
        return None
    return _section(
        "classes",
        "Class by class",
        "Each class against its frequency, and how the method changed its score.",
        ("plot", plots.score_against_frequency(comparison)),
        ("plot", plots.gain_bars(comparison)),
        *(("table", tables.extreme_classes_table(comparison, best=best)) for best in (False, True)),
        ("table", tables.correlation_table(comparison)),
    )


def confusions(comparison: Comparison) -> Section | None:
    """Where the pixels of the worst classes go."""
    shown = [entry for entry in (comparison.baseline, comparison.method) if entry is not None]
    maps = [svg for entry in shown if (svg := plots.confusion_heat_map(comparison, entry))]
    lead = "Rows: the true class, worst first; columns: what its pixels were called, in percent of the row."
    return _section(
        "confusion",
        f"Confusion{' among the worst classes' if maps else ''}",
        lead if maps else "",
        *(("plot", svg) for svg in maps),
        ("table", None if "flows" in comparison.method.prediction.extra else tables.group_error_table(comparison)),
        ("table", tables.top_confusion_table(comparison)),
    )


def changes(comparison: Comparison) -> Section | None:
    """Pictures of gains and losses of the method."""
    if comparison.task != "detection" or comparison.baseline is None:
        return None
    lead = (
        f"First the images on which {comparison.method.label} finds more of the objects than "
        f"{comparison.baseline.label}, then those on which it finds fewer; rare classes weigh more. As many detections "
        "are drawn as there are objects: right ones in the colour of their class, the others grey."
    )
    from longtail.reports.changes import changed_rows  # imports torch, which only this section needs

    blocks: list[tuple[Kind, Any]] = []
    for words, rows in zip(("Largest gains", "Largest losses"), changed_rows(comparison), strict=True):
        blocks += [("heading", words), ("pictures", rows)] if rows else []
    return _section("changes", "Gains and losses", lead, *blocks)


def failures(comparison: Comparison) -> Section | None:
    """Pictures of failures."""
    lead = (
        "The classes that lose most, each with its surest false positives and confusions, what was missed of it, and "
        "training examples. Orange: what was found; green: what is there. Click a class anywhere to see it alone."
    )
    return _section("failures", "Failures in pictures", lead, ("pictures", failure_rows(comparison)))


def qualitative(comparison: Comparison) -> Section | None:
    """Pictures."""
    lead = "Colours are classes; below each row are the rarest classes of its truth. "
    if comparison.task == "segmentation":
        lead += "Dark pixels carry no label."
    else:
        lead += "As many detections are drawn as there are objects, those with the best scores."
    return _section("pictures", "Pictures", lead, ("pictures", picture_rows(comparison)))


def experts(comparison: Comparison) -> Section | None:
    """Scores of each expert."""
    table = tables.expert_table(comparison)
    if table is None:
        return None
    word = "stage" if comparison.of("expert")[0].name.startswith("stage") else "expert"
    lead = f"Each {word} read on its own, and the method that combines them. "
    lead += "The deeper the colour, the better within its column."
    curves = detection_plots.stage_curves(comparison)
    positives = tables.positives_table(comparison)
    return _section("experts", f"{word.capitalize()}s", lead, ("plot", curves), ("table", table), ("table", positives))


def calibration(comparison: Comparison) -> Section | None:
    """Whether scores mean the same for rare and frequent classes."""
    lead = (
        "The score of a detection against how often it is right, by group: below the diagonal, detections are less often "
        "right than their score. One threshold serves all groups only where their curves agree."
    )
    curves, table = detection_plots.reliability(comparison), tables.calibration_table(comparison)
    return _section("calibration", "Scores by group", lead, ("plot", curves), ("table", table))


def uniform(comparison: Comparison) -> Section | None:
    """Scores as if every class had equally many pixels."""
    if not comparison.method.prediction.extra.get("uniform"):
        return None
    lead = (
        "The expected scores if the test set had equally many pixels of every class: each row of the confusion matrix "
        "is divided by its sum. Accuracies by class do not change; frequent classes no longer drown the IoU of rare ones."
    )
    shown = tables.group_tables(comparison, uniform=True)
    return _section("uniform", "Uniform test set", lead, *(("table", table) for table in shown))


def helping(comparison: Comparison) -> Section | None:
    """What would help."""
    lead = (
        "For each failing class what its data say, what the run's recorded ways to predict say, and what to try next. "
        "Every sentence has the number that it rests on."
    )
    return _section("advice", "What would help", lead, ("table", advice.advice_table(comparison)))


def every_class(comparison: Comparison) -> Section:
    """The whole table."""
    return Section("table", "Every class", "", [Block("long_table", tables.class_table(comparison))])


def provenance(comparison: Comparison) -> Section:
    """Settings and data that reproduce these numbers."""
    rows = []
    for run in comparison.runs:
        results = run.results
        facts = {key: getattr(results, key) for key in ("method", "seed", "data", "settings", "environment")}
        rows.append((run.label, json.dumps({"results": str(run.source), **facts}, indent=2, ensure_ascii=False)))
    return Section("provenance", "How to find these numbers again", "", [Block("provenance", rows)])


def dial(comparison: Comparison) -> Section | None:
    """What a user chooses after training."""
    lead = (
        "Each point is a value of τ: larger ones give rare classes more pixels. A diamond is a run's own prediction. "
        "`longtail predict RUN --tau` takes the value."
    )
    return _section("dial", "The dial between frequent and rare classes", lead, ("plot", dial_curves(comparison)))


#: The sections of a report. A section for one task returns None for the other.
SECTIONS: tuple[Callable[[Comparison], Section | None], ...] = (
    summary,
    by_group,
    errors,
    flows,
    frequency,
    by_class,
    confusions,
    operating_points,
    helping,
    failures,
    changes,
    qualitative,
    experts,
    dial,
    calibration,
    uniform,
    every_class,
    provenance,
)


def _section(name: str, title: str, lead: str, *blocks: tuple[Kind, Any]) -> Section | None:
    """A section of the blocks that have any content; None where none has."""
    shown = _shown(blocks)
    return Section(name, title, lead, shown) if shown else None


def _shown(blocks: Any) -> list[Block]:
    return [Block(kind, content) for kind, content in blocks if content]


def _data_cards(comparison: Comparison) -> list[Card]:
    cards = []
    if images := comparison.focus.results.data.get("images"):
        cards.append(Card("images", f"{images:,}" if isinstance(images, int) else str(images)))
    groups = {name: size for name, size in zip(comparison.groups.names, comparison.groups.sizes, strict=True) if size}
    note = f"{' / '.join(groups)}: {' / '.join(map(str, groups.values()))}"
    cards.append(Card("classes", str(len(comparison.class_names)), note))
    if comparison.counts is not None:
        counts, unit = comparison.counts
        present = counts[counts > 0]
        if len(present) > 1:
            ratio = present.max() / present.min()
            cards.append(Card("imbalance", f"{ratio:,.0f}", f"to 1, most to least frequent, {unit.split(' (')[0]}"))
    if memory := comparison.focus.results.training.get("memory_gb"):
        cards.append(Card("memory", f"{memory:.1f} GB", "largest while training"))
    return cards


def _verdict(comparison: Comparison) -> str:
    """What is told of the difference to the baseline, and how far the oracle is."""
    words = ""
    oracle = comparison.oracle
    if comparison.baseline is not None:
        words += _difference(comparison)
    if oracle is not None and comparison.group_metrics:
        bound = oracle.score(comparison.group_metrics[0])
        if np.isfinite(bound):
            words += f" Choosing the right expert everywhere would give {percent(bound)} {comparison.group_metrics[0]}."
    return words


def _difference(comparison: Comparison) -> str:
    """The rarest group's difference to the baseline, as far as its interval supports a word on it."""
    base, method, certainty = comparison.baseline, comparison.method, comparison.certainty
    assert base is not None
    metric = next((m for m in comparison.group_metrics if certainty.gain(method.label, m, ALL)), None)
    if metric is None:
        return f" Whether it differs from {base.label} is not told: {certainty.missing or 'there are no intervals'}."
    words, found = "", [(group, certainty.gain(method.label, metric, group)) for group in (_rarest(comparison), ALL)]
    for group, interval in dict(found).items():
        if interval is None:
            continue
        ends = " … ".join(f"{100 * end:+.2f}".replace("-", "−") for end in (interval.low, interval.high))
        told = certainty.told(method.label, metric, group)
        verdict = ("better" if interval.low > 0 else "worse") if told else "not told from chance"
        gain = method.score(metric, group) - base.score(metric, group)
        words += f" {group.capitalize()} {metric} {signed(gain)} ({ends}): {verdict}."
    if certainty.images < FEWEST_IMAGES:
        words += f" {certainty.images} images are too few to tell methods apart."
    return f" Against {base.label}, with 95 % intervals:{words}"


def _rarest(comparison: Comparison) -> str:
    """Name of the group of the rarest classes."""
    names = comparison.group_names
    return next((name for name in names if name in ("tail", "rare", "few")), names[-1])
