"""The tables of a comparison as files (CSV, Markdown) and as data frames."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtail.errors import ConfigError
from longtail.files import make_folder, write_text
from longtail.reports import advice, error_tables, tables
from longtail.reports.cells import Cell, Table
from longtail.reports.comparison import Comparison

if TYPE_CHECKING:
    import pandas

_NOTE = "note"
#: File name -> the table that it holds; those that a comparison has nothing for are left out.
TABLES: Mapping[str, Callable[[Comparison], Table | None]] = {
    "groups": tables.group_table,
    "overall": lambda comparison: tables.overall_table(comparison, every=True),
    "intervals": error_tables.interval_table,
    "errors_by_group": error_tables.error_group_table,
    "errors_by_class": lambda comparison: error_tables.error_class_table(comparison, limit=None),
    "thresholds": error_tables.operating_table,
    "flows_by_group": error_tables.flow_table,
    "flows_by_class": lambda comparison: error_tables.taker_table(comparison, limit=None),
    "confusions": lambda comparison: tables.top_confusion_table(comparison, count=60),
    "advice": lambda comparison: advice.advice_table(comparison, limit=None),
    "experts": tables.expert_table,
    "correlations": tables.correlation_table,
    "calibration": tables.calibration_table,
}


def all_tables(comparison: Comparison) -> dict[str, Table]:
    """File name -> table."""
    return {name: table for name, make in TABLES.items() if (table := make(comparison)) is not None}


def export_tables(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Write every table as ``NAME.csv`` and ``NAME.md``, and ``classes.csv`` with every metric of every class.

    Scores are fractions in CSV and percent in Markdown.

    Returns:
        The files written.

    Raises:
        ConfigError: They cannot be written.
    """
    make_folder(Path(folder))
    content = {"classes.csv": class_csv(comparison)}
    for name, table in all_tables(comparison).items():
        content |= {f"{name}.csv": to_csv(table), f"{name}.md": to_markdown(table)}
    files = {Path(folder) / name: text for name, text in content.items()}
    for path, text in files.items():
        write_text(path, text)
    return list(files)


def to_csv(table: Table) -> str:
    """A table as CSV text: numbers in full, scores as fractions, undefined values empty."""
    columns, rows = _flat(table)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """A table as Markdown, as the page shows it."""
    heads = [_head(column).replace("|", "\\|") for column in table.columns]
    lines = [f"**{table.title}**", ""] if table.title else []
    lines += [
        f"| {' | '.join(heads)} |",
        f"|{'|'.join('---' if i in table.text_columns else '---:' for i in range(len(heads)))}|",
    ]
    for row in table.rows:
        cells = (f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in row)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines, *(["", table.caption] if table.caption else [])]) + "\n"


def to_frame(table: Table) -> "pandas.DataFrame":
    """A table as a data frame: numbers in full, scores as fractions.

    Raises:
        ConfigError: pandas is not installed.
    """
    columns, rows = _flat(table)
    return _pandas().DataFrame(rows, columns=columns)


def class_frame(comparison: Comparison) -> "pandas.DataFrame":
    """Every class, its group and counts, and every metric of every way to predict.

    Raises:
        ConfigError: pandas is not installed.
    """
    return _pandas().read_csv(io.StringIO(class_csv(comparison)), index_col="id")


def class_csv(comparison: Comparison) -> str:
    """Every class, its group and counts, and every metric of every way to predict, as CSV text.

    Scores are fractions; undefined values are empty.
    """
    counts = {} if comparison.frequency is None else comparison.frequency.to_dict()
    units = [unit for unit in ("pixels", "images", "instances") if counts.get(unit) is not None]
    columns = [(entry, metric) for entry in comparison.entries for metric in entry.prediction.per_class]
    scores = [comparison.values(entry, metric).tolist() for entry, metric in columns]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "class", "group", *units, *(f"{entry.label} {metric}" for entry, metric in columns)])
    for index, name in enumerate(comparison.class_names):
        values = ["" if score[index] != score[index] else repr(score[index]) for score in scores]
        writer.writerow([index, name, comparison.group_name(index), *(counts[u][index] for u in units), *values])
    return text.getvalue()


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("data frames need pandas", fix="pip install 'longtail[notebook]'") from error
    return pandas


def _head(column: tuple[str, str]) -> str:
    return " ".join(part for part in column if part)


def _flat(table: Table) -> tuple[list[str], list[list[Any]]]:
    """Columns of distinct names, more where cells have notes; a label that stands for several rows in each."""
    noted = [_notes(row[i] for row in table.rows) for i in range(len(table.columns))]
    heads: list[str] = []
    for place, column in enumerate(table.columns):
        head = _head(column) or ("run" if place == 0 else "")
        head = f"{head} {heads.count(head) + 1}" if head in heads else head
        heads += [head, *(f"{head}, {name}" for name in noted[place])]
    rows, before = [], ""
    for row in table.rows:
        before = row[0].text or before
        values: list[Any] = []
        for place, cell in enumerate(row):
            value = before if place == 0 and not cell.text else _value(cell)
            values += [value, *(cell.note if name == _NOTE else cell.numbers.get(name, "") for name in noted[place])]
        rows.append(values)
    return heads, rows


def _notes(column: Iterable[Cell]) -> list[str]:
    """What the notes of a column say: numbers by name, or words."""
    names = [name for cell in column if cell.note for name in cell.numbers or (_NOTE,)]
    return list(dict.fromkeys(names))


def _value(cell: Cell) -> Any:
    return cell.key if cell.key is not None else "" if cell.text == "–" else cell.text
