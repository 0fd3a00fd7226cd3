"""Tables as data: cells with their texts, notes and numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

Tone = Literal["", "good", "bad", "muted"]

_WORDS = (
    "",
    "class",
    "called",
    "group",
    "true group",
    "stage",
    "kind",
    "most often taken for",
    "what to try",
    "evidence",
)


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Args:
        text: Its text.
        note: Smaller text after it: the difference to the baseline.
        tone: Colour of the note.
        strong: Whether it is the best of its column.
        shade: Background strength in [0, 1], None for none.
        key: Number to sort by, and to write into files, instead of the text.
        index: Class id, where the cell names a class: the page filters by it.
        numbers: What the note says, by name, for files: scores as fractions.
    """

    text: str
    note: str = ""
    tone: Tone = ""
    strong: bool = False
    shade: float | None = None
    key: float | None = None
    index: int | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table to show.

    Args:
        title: One line above it.
        columns: (band, name) of every column; neighbours of one band share a heading.
        rows: One cell a column.
        caption: Remarks below it.
        quiet: Indices of rows that are no fair competitor (an oracle) or stand apart.
    """

    title: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    quiet: frozenset[int] = frozenset()

    @property
    def filled(self) -> "Table":
        """The table without columns that have nothing to show; as it is where none has."""
        kept = [i for i in range(1, len(self.columns)) if any(row[i].text not in ("", "–") for row in self.rows)]
        kept = [0, *(kept or range(1, len(self.columns)))]
        rows = [[row[i] for i in kept] for row in self.rows]
        return replace(self, columns=[self.columns[i] for i in kept], rows=rows)

    @property
    def wide(self) -> bool:
        """Whether it needs the page's whole width."""
        return len(self.columns) > 8

    @property
    def text_columns(self) -> frozenset[int]:
        """Indices of columns of words, to align left."""
        return frozenset(i for i, (_, name) in enumerate(self.columns) if name in _WORDS)

    @property
    def bands(self) -> list[tuple[str, int]]:
        """Heading and width of each run of columns of one band."""
        bands: list[tuple[str, int]] = []
        for band, _ in self.columns:
            if bands and bands[-1][0] == band:
                bands[-1] = (band, bands[-1][1] + 1)
            else:
                bands.append((band, 1))
        return bands


def percent(value: float | None, digits: int = 2) -> str:
    """A score in percent, or a dash where it is undefined."""
    return "–" if value is None or not np.isfinite(value) else f"{100 * value:.{digits}f}"


def signed(value: float, digits: int = 2) -> str:
    """A difference in points with its sign; empty where it is undefined."""
    if not np.isfinite(value):
        return ""
    text = f"{100 * value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else f"±{text[1:]}"


def tone(gain: float, digits: int = 2) -> Tone:
    """Colour of a difference; differences that ``digits`` do not show are muted."""
    if not np.isfinite(gain) or abs(gain) < 0.5 * 10.0 ** -(digits + 2):
        return "muted"
    return "good" if gain > 0 else "bad"


def score_cell(value: float | None, digits: int = 1) -> Cell:
    """A score in percent, with the fraction itself for files."""
    return Cell(percent(value, digits), key=None if value is None or not np.isfinite(value) else float(value))


def count_cell(value: float | int | np.integer) -> Cell:
    """A whole number."""
    return Cell(f"{int(value):,}", key=int(value))


def counted(number: int, word: str) -> str:
    """A number of things: ``1 error``, ``1,200 errors``, ``2 classes``."""
    return f"{number:,} {word}{'' if number == 1 else 'es' if word.endswith('s') else 's'}"
