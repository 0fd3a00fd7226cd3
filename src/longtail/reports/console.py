"""Tables in a terminal of any width."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from longtail.reports.cells import Cell, Table

_STYLES = {"good": "green", "bad": "red", "muted": "dim", "": "dim"}


def print_table(table: Table, console: Console) -> None:
    """Print a table in as many parts as the terminal's width asks for; each part repeats the first column.

    Parts begin with a band where a band fits. Long names are folded, never cut.
    """
    start = 1
    while start < len(table.columns):
        end = start + 1
        while end < len(table.columns) and _fits(table, [0, *range(start, end + 1)], console):
            end += 1
        bands = [i for i in range(start + 1, end) if table.columns[i][0] != table.columns[i - 1][0]]
        if end < len(table.columns) and table.columns[end][0] == table.columns[end - 1][0] and bands:
            end = bands[-1]
        console.print(_rich(table, [0, *range(start, end)], console.width, table.title if start == 1 else ""))
        start = end
    if table.caption:
        console.print(Text(table.caption, style="dim"))


def _fits(table: Table, columns: list[int], console: Console) -> bool:
    rich = _rich(table, columns, console.width)
    return Measurement.get(console, console.options.update(max_width=10_000), rich).maximum <= console.width


def _rich(table: Table, columns: list[int], width: int, title: str = "") -> RichTable:
    shown = RichTable(title=title or None, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    previous = ""
    for place in columns:
        band, name = table.columns[place]
        heading = f"{band if band != previous else ''}\n{name}" if any(table.columns[i][0] for i in columns) else name
        words = place in table.text_columns
        shown.add_column(
            heading,
            justify="left" if words else "right",
            no_wrap=not words,
            overflow="fold",
            max_width=max(12, width // 3) if words else None,
        )
        previous = band
    for number, row in enumerate(table.rows):
        style = "dim italic" if number in table.quiet else ""
        shown.add_row(*(_text(row[place]) for place in columns), style=style)
    return shown


def _text(cell: Cell) -> Text:
    text = Text(cell.text, style="bold" if cell.strong else "")
    return text.append(f"\n{cell.note}", style=_STYLES[cell.tone]) if cell.note else text
