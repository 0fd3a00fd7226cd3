"""Matplotlib figures, inline as SVG or as files: one style, the same bytes every time, hover texts, light and dark."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

from longtail.errors import ConfigError

#: Ending of a figure's file -> metadata that would say when it was made, left out.
_FORMATS: dict[str, Any] = {".svg": {"Date": None}, ".png": {}, ".pdf": {"CreationDate": None}}
_DPI = 150
#: Axes and text; the page's style sheet recolours them in dark mode.
INK = "#6b7480"
#: Text on tinted cells; recoloured likewise.
STRONG_INK = "#2b2440"

_STYLE: Any = {  # matplotlib types the keys, by version
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.22,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.unicode_minus": True,
}

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)


def style() -> Any:
    """Context, or decorator, in which every figure of the report is drawn."""
    return mpl.rc_context(_STYLE)


def new_figure(width: float, height: float, columns: int = 1, rows: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure without pyplot's global state, and its axes (a 2-D array where there are several)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=rows * columns == 1, **options)


def figure_path(out: str | Path) -> Path:
    """Where a figure is written.

    Raises:
        ConfigError: The name ends in no format that can be written.
    """
    path = Path(out)
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(
            f"a figure cannot be written to {path}", fix=f"name a file that ends in {', '.join(_FORMATS)}"
        )
    return path


def write_figure(figure: Figure, path: Path) -> Path:
    """Write a figure to a file, the same bytes for the same numbers; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with style(), mpl.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, dpi=_DPI, facecolor="white", metadata=_FORMATS[path.suffix.lower()])
    return path


def to_svg(figure: Figure, name: str, label: str, hovers: Mapping[str, Sequence[str]] | None = None) -> str:
    """The figure as an ``<svg>`` element for an HTML page.

    Args:
        figure: Drawn within ``style()``.
        name: Distinct within the page: seeds the ids.
        label: What the figure shows, for screen readers.
        hovers: gid of an artist -> text of each of its marks, in drawing order.
    """
    buffer = io.StringIO()
    with style(), mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has its own fonts
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for gid, texts in (hovers or {}).items():
        _add_titles(root, gid, texts)
    _tidy(root)
    box = root.attrib["viewBox"]
    width = round(float(box.split()[2]) * 4 / 3)
    sizes = f"max-width:{width}px;min-width:{min(width, 620)}px"
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-label": label, "style": sizes})
    return ElementTree.tostring(root, encoding="unicode")


def _add_titles(root: ElementTree.Element, gid: str, texts: Sequence[str]) -> None:
    """Give each mark (``<use>`` or ``<path>``) of the group ``gid`` a ``<title>``."""
    group = root.find(f".//*[@id='{gid}']")
    if group is None:
        return
    definitions = {id(part) for shared in group.iter(f"{{{_SVG}}}defs") for part in shared.iter()}
    marks = [m for m in group.iter() if m.tag in (f"{{{_SVG}}}use", f"{{{_SVG}}}path") and id(m) not in definitions]
    for mark, words in zip(marks, texts, strict=False):
        ElementTree.SubElement(mark, f"{{{_SVG}}}title").text = words


def _tidy(root: ElementTree.Element) -> None:
    """Drop ids that nothing refers to, blank text and needless digits."""
    values = [value for element in root.iter() for value in element.attrib.values()]
    used = {reference for value in values for reference in re.findall(r"^#(.+)|url\(#([^)]+)\)", value)}
    names = {name for pair in used for name in pair}
    for element in root.iter():
        if element.get("id") not in names:
            element.attrib.pop("id", None)
        for key, value in element.attrib.items():
            element.set(key, re.sub(r"(-?\d+\.\d{2})\d+", r"\1", value).replace("\n", " ").strip())
        if not (element.text or "").strip():
            element.text = None
        element.tail = None
