"""``write_report``: one self-contained HTML page."""

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from longtail.reports.comparison import Comparison
from longtail.reports.export import class_csv
from longtail.reports.sections import SECTIONS, warnings
from longtail.reports.svg import group_colours
from longtail.version import __version__


def write_report(runs: Sequence[str | Path], out: str | Path) -> Path:
    """Write the report of one or several evaluations.

    The page needs no network and no further file: plots are inline SVG, pictures and the CSV of the class table are
    data URIs. Equal results give an equal page.

    Args:
        runs: Run folders or ``results.json`` files; the first of several is the baseline, the last the method that
            the report is about.
        out: The file to write (``….html``), or a folder, in which it is called ``report.html``.

    Returns:
        The file written.

    Raises:
        DataError: Results are missing or unreadable, or the runs cannot be compared.
    """
    page = render(Comparison.load(runs))
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        path = path / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(page, encoding="utf-8")
    part.replace(path)
    return path


def render(comparison: Comparison) -> str:
    """The report as HTML text."""
    environment = Environment(
        loader=PackageLoader("longtail.reports"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup  # our own plots; everything else is escaped
    names = comparison.groups.names
    title = comparison.method.label
    if comparison.baseline is not None:
        title = f"{title} against {comparison.baseline.label}"
    return environment.get_template("report.html.j2").render(
        title=title,
        task=comparison.task,
        sections=[section for make in SECTIONS if (section := make(comparison)) is not None],
        warnings=warnings(comparison),
        colours=dict(zip(names, group_colours(names), strict=True)),
        csv=base64.b64encode(class_csv(comparison).encode()).decode(),
        version=__version__,
    )
