"""``write_report``: one self-contained HTML page."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from longtail.files import write_text
from longtail.reports.axes import group_colours
from longtail.reports.comparison import Comparison
from longtail.reports.export import class_csv
from longtail.reports.sections import SECTIONS, Section
from longtail.version import __version__


@dataclass(frozen=True)
class Part:
    """The part of the page on the runs of one task.

    Args:
        title: Who is compared with whom.
        task: ``segmentation`` or ``detection``; begins the anchors.
        sections: In order.
        warnings: Why the runs may not be comparable.
        csv: The class table, base64.
    """

    title: str
    task: str
    sections: list[Section]
    warnings: list[str]
    csv: str


def write_report(runs: Sequence[str | Path], out: str | Path, first: Section | None = None) -> Path:
    """Write the report of one or several evaluations.

    The page needs no network and no other file: plots are inline SVG, pictures and the CSV of the class table are
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
    return write_page(Comparison.by_task(runs), out, first)


def write_page(comparisons: Sequence[Comparison], out: str | Path, first: Section | None = None) -> Path:
    """Write the report of what was read already, a part of the page for each task; see ``write_report``."""
    parts = [_part(comparison) for comparison in comparisons]
    if first is not None:
        parts[0].sections.insert(0, first)
    colours = {name: colour for of in comparisons for name, colour in _colours(of).items()}
    return render(parts, colours, out)


def render(parts: Sequence[Part], colours: Mapping[str, str], out: str | Path) -> Path:
    """Write a page of parts.

    Args:
        parts: At least one.
        colours: Colour of each group.
        out: See ``write_report``.
    """
    environment = Environment(
        loader=PackageLoader("longtail.reports"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup  # our own plots; everything else is escaped
    page = environment.get_template("report.html.j2").render(
        title=" · ".join(part.title for part in parts),
        parts=parts,
        colours=colours,
        version=__version__,
    )
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        path = path / "report.html"
    write_text(path, page)
    return path


def _colours(comparison: Comparison) -> dict[str, str]:
    names = comparison.groups.names
    return dict(zip(names, group_colours(names), strict=True))


def _part(comparison: Comparison) -> Part:
    title = comparison.method.label
    if comparison.baseline is not None:
        title = f"{title} against {comparison.baseline.label}"
    sections = [section for make in SECTIONS if (section := make(comparison)) is not None]
    doubts = comparison.doubts
    if comparison.groups_from.startswith("the labels scored"):
        doubts.append("Groups come from the evaluated labels, since no training frequency was given.")
    encoded = base64.b64encode(class_csv(comparison).encode()).decode()
    return Part(title, comparison.task, sections, doubts, encoded)
