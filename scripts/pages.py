"""Where things are, and how a table cell and a block of a page are written."""

import os
import re
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LONGTAIL_DATA", ROOT.parent / "shared" / "data"))
PAPERS = ROOT / "docs" / "papers"


def mean_and_spread(values: list[float]) -> str:
    """``mean ± standard deviation`` over seeds; the mean alone of one seed."""
    if not values:
        return "–"
    mean = statistics.mean(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def p_value(p: float) -> str:
    """With spaces that do not break: it stays on one line of its cell."""
    return ("p < 0.01" if p < 0.01 else f"p = {p:.2f}").replace(" ", "\u00a0")


def blocks_of(page: Path) -> list[str]:
    """Names of the blocks ``<!-- NAME -->`` … ``<!-- end NAME -->`` of a page."""
    text = page.read_text(encoding="utf-8")
    return [name for name in re.findall(r"<!-- (.+?) -->", text) if f"<!-- end {name} -->" in text]


def write_block(page: Path, name: str, block: str) -> None:
    """Put ``block`` between the markers of a page."""
    text = page.read_text(encoding="utf-8")
    marked = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.S)
    if not marked.search(text):
        raise SystemExit(f"{page} has no markers for {name}")
    page.write_text(marked.sub(lambda match: match[1] + block + "\n" + match[2], text), encoding="utf-8")


def say(text: str) -> None:
    """Print, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
