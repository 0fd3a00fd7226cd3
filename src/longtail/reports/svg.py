"""Matplotlib figures, inline as SVG or as files: one style, the same bytes every time, hover texts, light and dark."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from longtail.errors import ConfigError

#: Ending of a figure's file -> metadata that would say when it was made, left out.
_FORMATS: dict[str, Any] = {".svg": {"Date": None}, ".png": {}, ".pdf": {"CreationDate": None}}
_DPI = 150
#: Colour-blind safe, and readable on white and on black; from frequent to rare.
GROUP_COLOURS = ("#3b7fc4", "#1a9e83", "#e0672a", "#b65fa8", "#c79a1c", "#7d8590")
_GROUP_PLACES = {"head": 0, "frequent": 0, "body": 1, "common": 1, "tail": 2, "rare": 2, "few": 2}
#: Baseline, methods …; the oracle has its own.
SERIES_COLOURS = ("#98a2ad", "#6f5bd6", "#2f9fd0", "#d1577f", "#5aa02c")
ORACLE_COLOUR = "#cfa01a"
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


def style() -> Any:
    """Context in which every figure of the report is drawn."""
    return mpl.rc_context(_STYLE)


def group_colours(names: Sequence[str]) -> list[str]:
    """Colour of each group: the same for head and frequent, body and common, tail and rare, whatever their order."""
    free = [i for i in range(len(GROUP_COLOURS)) if i not in {_GROUP_PLACES.get(n) for n in names}]
    places = [_GROUP_PLACES[name] if name in _GROUP_PLACES else free.pop(0) if free else -1 for name in names]
    return [GROUP_COLOURS[place] for place in places]


def new_figure(width: float, height: float, columns: int = 1, rows: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure without pyplot's global state, and its axes (a 2-D array where there are several)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=rows * columns == 1, **options)


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """One legend of the whole figure under its axes, in as many rows as its labels need."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(figure.get_figwidth() / (0.07 * longest + 0.45))))
    figure.set_figheight(figure.get_figheight() + 0.2 * (-(-len(handles) // columns) - 1))
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns)


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
    """Write a figure of its own, the same bytes for the same numbers; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, dpi=_DPI, facecolor="white", metadata=_FORMATS[path.suffix.lower()])
    return path


def to_svg(figure: Figure, name: str, label: str, hovers: Mapping[str, Sequence[str]] | None = None) -> str:
    """The figure as an ``<svg>`` element for an HTML page.

    Args:
        figure: Drawn within ``style()``.
        name: Distinct within the page: prefixes the ids, and seeds them.
        label: What the figure shows, for screen readers.
        hovers: gid of an artist -> text of each of its marks, in drawing order.
    """
    buffer = io.StringIO()
    with style(), mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has its own fonts
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    for gid, texts in (hovers or {}).items():
        text = _with_hovers(text, gid, texts)
    text = re.sub(r"(-?\d+\.\d{2})\d+", r"\1", text)
    text = re.sub(r"\n\s+", "\n", with_prefix(text, name))
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    natural = round(float(size[1]) * 4 / 3) if size else 960
    width = f' style="max-width:{natural}px;min-width:{min(natural, 620)}px"'
    return re.sub(
        r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>",
        rf'<svg xmlns:xlink="http://www.w3.org/1999/xlink" \1 role="img" aria-label="{escape(label)}"{width}>',
        text,
        count=1,
    )


def with_prefix(svg: str, prefix: str) -> str:
    """The same picture with ``prefix-`` before all its ids and the references to them."""
    text = re.sub(r'\bid="', f'id="{prefix}-', svg)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)


def _with_hovers(text: str, gid: str, texts: Sequence[str]) -> str:
    """Give each mark (``<use>`` or ``<path>``) of the group ``gid`` a ``<title>``."""
    start = text.find(f'<g id="{gid}">')
    if start < 0:
        return text
    end = _closing(text, start)
    remaining = iter(texts)

    def titled(mark: re.Match[str]) -> str:
        words = next(remaining, None)
        if words is None:
            return mark[0]
        return f"{mark[0][:-2]}><title>{escape(words)}</title></{mark[1]}>"

    block = text[start:end]
    skip = block.rfind("</defs>") + len("</defs>") if "</defs>" in block else 0
    return text[:start] + block[:skip] + re.sub(r"<(use|path)\b[^>]*/>", titled, block[skip:]) + text[end:]


def _closing(text: str, start: int) -> int:
    """End of the element ``<g …>`` that starts at ``start``."""
    depth = 0
    for tag in re.finditer(r"<g\b[^>]*?(/?)>|</g>", text[start:]):
        if tag[0].startswith("</"):
            depth -= 1
        elif not tag[1]:
            depth += 1
        if depth == 0:
            return start + tag.end()
    return len(text)
