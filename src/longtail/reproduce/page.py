"""A reproduced table in words: for the terminal and the report, as Markdown, and its curve."""

import json
from pathlib import Path

from longtail.reports.cells import Cell, Table, Tone
from longtail.reports.curve import Series, curve_svg
from longtail.reports.sections import Block, Section
from longtail.reproduce.outcome import Outcome

_TONES: dict[str | None, Tone] = {"holds": "good", "contradicted": "bad"}


def table(made: Outcome) -> Table:
    """The printed and our numbers, in bands of two columns; ours alone where the paper prints nothing."""
    columns, rows = [("", ""), ("", "seeds")], []
    printed = [h for h in made.experiment.columns if any(c[h].published is not None for c in made.cells.values())]
    for header in made.experiment.columns:
        columns += [(header, "paper"), (header, "ours")] if header in printed else [(header, "ours")]
    for name, cells in made.cells.items():
        row = [Cell(name), Cell(str(max((len(cell.values) for cell in cells.values()), default=0)))]
        for header, cell in cells.items():
            row += [Cell(cell.printed)] if header in printed else []
            row.append(Cell(cell.ours, cell.change, _TONES.get(cell.verdict, "muted")))
        rows.append(row)
    return Table(made.experiment.title, columns, rows, " ".join(_notes(made)))


def section(made: Outcome) -> Section:
    """The table, which of its printed changes hold, and the curve where there is one."""
    experiment = made.experiment
    blocks = [Block("table", table(made))]
    if experiment.curve:
        blocks.append(Block("plot", curve_svg(curve_series(made), experiment.curve)))
    lead = f"{_lead(made)} {made.claims()}".strip()
    return Section("reproduced", f"{experiment.paper} {experiment.name}", lead, blocks)


def curve_series(made: Outcome) -> Series:
    """Header -> value of the hyper-parameter -> our scores, of the rows that stand at one."""
    points = {row.at: made.cells[row.name] for row in made.experiment.rows if row.at is not None}
    return {
        header: {at: list(cells[header].values.values()) for at, cells in points.items()}
        for header in made.experiment.columns
    }


def markdown(made: Outcome) -> str:
    """The table as Markdown, with notes below."""
    experiment, shown = made.experiment, table(made)
    rows = [[f"{cell.text} {cell.note}".strip() for cell in row] for row in shown.rows]
    rows = [
        [f"{band} {name}".strip() for band, name in shown.columns],
        ["---", *["---:"] * (len(shown.columns) - 1)],
        *rows,
    ]
    notes = [*_notes(made), made.claims(), f"{made.missing} runs have no results yet." if made.missing else ""]
    return (
        "\n".join(
            [
                f"# {experiment.paper} {experiment.name}, {experiment.part}: {experiment.title}\n",
                f"{_lead(made)}\n",
                *(f"| {' | '.join(row)} |" for row in rows),
                "",
                *(f"- {note}" for note in notes if note),
            ]
        ).rstrip()
        + "\n"
    )


def save(made: Outcome, folder: str | Path) -> Path:
    """Write ``EXPERIMENT-PART.md`` and ``.json``; returns the path of the first."""
    path = Path(folder) / f"{made.experiment.name}-{made.experiment.part}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(markdown(made), encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(made.to_dict(), indent=1) + "\n", encoding="utf-8")
    return path


def _lead(made: Outcome) -> str:
    return (
        f"Runs on `{made.data}`, budget `{made.budget}`. The paper's numbers are of {made.experiment.part} at its own "
        "schedule. Ours: mean ± standard deviation over seeds; the change is paired by seed (t-test)."
    )


def _notes(made: Outcome) -> list[str]:
    misprints = [f"{row.name}: {row.misprint}." for row in made.experiment.rows if row.misprint]
    return [*filter(None, [made.experiment.note]), *misprints]
