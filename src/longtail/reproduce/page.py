"""What a report says of a reproduced table: its numbers beside the printed ones, and its curve."""

from longtail.reports.curve import Series, curve_svg
from longtail.reports.sections import Block, Section
from longtail.reports.tables import Cell as Shown
from longtail.reports.tables import Table, Tone
from longtail.reproduce.outcome import Cell, Outcome

_TONES: dict[str, Tone] = {"holds": "good", "contradicted": "bad"}


def section(made: Outcome) -> Section:
    """The table, which of its printed changes hold, and the curve where there is one."""
    experiment = made.experiment
    blocks = [Block("table", _table(made))]
    if experiment.curve:
        blocks.append(Block("plot", curve_svg(curve_series(made), experiment.curve)))
    lead = (
        f"Runs on {made.data}, budget {made.budget}; the printed numbers are of {experiment.part} at the paper's schedule. "
        "Mean and standard deviation over seeds; the change is paired by seed (t-test). " + made.claims()
    )
    return Section("reproduced", f"{experiment.paper} {experiment.name}: {experiment.title}", lead.strip(), blocks)


def curve_series(made: Outcome) -> Series:
    """Header -> value of the hyper-parameter -> our scores, of the rows that stand at one."""
    points = {row.at: made.cells[row.name] for row in made.experiment.rows if row.at is not None}
    return {
        header: {at: list(cells[header].values.values()) for at, cells in points.items()}
        for header in made.experiment.columns
    }


def _table(made: Outcome) -> Table:
    """Bands of two columns, printed and ours; ours alone where the paper prints nothing."""
    printed = {
        header: any(cells[header].published is not None for cells in made.cells.values())
        for header in made.experiment.columns
    }
    columns = [("", ""), ("", "seeds")]
    for header, known in printed.items():
        columns += [(header, "paper")] * known + [(header, "ours")]
    rows = []
    for name, cells in made.cells.items():
        row = [Shown(name), Shown(str(max((len(cell.values) for cell in cells.values()), default=0)))]
        for header, cell in cells.items():
            if printed[header]:
                row.append(Shown("–" if cell.published is None else f"{cell.published:g}"))
            row.append(Shown(cell.ours, cell.change, _tone(cell)))
        rows.append(row)
    caption = " ".join(f"{row.name}: {row.misprint}." for row in made.experiment.rows if row.misprint)
    return Table("", columns, rows, " ".join(filter(None, [made.experiment.note, caption])))


def _tone(cell: Cell) -> Tone:
    return _TONES.get(cell.verdict or "", "muted")
