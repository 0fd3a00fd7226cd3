"""``write_report``: one self-contained HTML page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from longtail.files import write_text
from longtail.metrics.results import Results
from longtail.reports.comparison import Comparison, results_file
from longtail.reports.export import class_csv
from longtail.reports.sections import SECTIONS, Section, warnings
from longtail.reports.svg import group_colours, with_prefix
from longtail.version import __version__


@dataclass(frozen=True)
class Part:
    """What the page says about the runs of one task.

    Args:
        title: Who is compared with whom.
        task: ``segmentation`` or ``detection``; its anchor.
        sections: In order.
        warnings: What makes the comparison doubtful.
        csv: The class table, base64.
    """

    title: str
    task: str
    sections: list[Section]
    warnings: list[str]
    csv: str


def write_report(runs: Sequence[str | Path], out: str | Path, first: Section | None = None) -> Path:
    """Write the report of one or several evaluations.

    The page needs no network and no further file: plots are inline SVG, pictures and the CSV of the class table are
    data URIs. Equal results give an equal page. Runs of both tasks give a page of two parts.

    Args:
        runs: Run folders or ``results.json`` files; of the runs of a task, the first of several is the baseline, the
            last the method that the report is about.
        out: The file to write (``….html``), or a folder, in which it is called ``report.html``.
        first: A section to begin with, before those of the runs.

    Returns:
        The file written.

    Raises:
        DataError: Results are missing or unreadable, or the runs cannot be compared.
        ConfigError: The page cannot be written.
    """
    page = render(*(Comparison.load(of_task) for of_task in by_task(runs)), first=first)
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        path = path / "report.html"
    write_text(path, page)
    return path


def by_task(runs: Sequence[str | Path]) -> list[list[str | Path]]:
    """The runs of each task, in the order in which tasks and runs come."""
    tasks: dict[str, list[str | Path]] = {}
    for run in runs:
        tasks.setdefault(Results.load(results_file(run)).task, []).append(run)
    return list(tasks.values()) or [[]]


def render(*comparisons: Comparison, first: Section | None = None) -> str:
    """The report as HTML text, a part for each comparison; ``first`` begins the first."""
    environment = Environment(
        loader=PackageLoader("longtail.reports"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup  # our own plots; everything else is escaped
    parts = [_part(comparison, apart=len(comparisons) > 1) for comparison in comparisons]
    if first is not None:
        parts[0].sections.insert(0, first)
    names = [comparison.groups.names for comparison in comparisons]
    return environment.get_template("report.html.j2").render(
        title=" · ".join(part.title for part in parts),
        parts=parts,
        colours={name: colour for n in names for name, colour in zip(n, group_colours(n), strict=True)},
        version=__version__,
    )


def _part(comparison: Comparison, *, apart: bool) -> Part:
    """One part; ids that another part has, too, are told ``apart`` by the task."""
    title = comparison.method.label
    if comparison.baseline is not None:
        title = f"{title} against {comparison.baseline.label}"
    sections = [section for make in SECTIONS if (section := make(comparison)) is not None]
    if apart:
        sections = [_renamed(section, comparison.task) for section in sections]
    csv = base64.b64encode(class_csv(comparison).encode()).decode()
    return Part(title, comparison.task, sections, warnings(comparison), csv)


def _renamed(section: Section, prefix: str) -> Section:
    blocks = [
        replace(block, content=with_prefix(block.content, prefix)) if block.kind == "plot" else block
        for block in section.blocks
    ]
    return replace(section, name=f"{prefix}-{section.name}", blocks=blocks)
