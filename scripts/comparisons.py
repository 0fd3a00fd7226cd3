"""Put the tables that `longtail reproduce` wrote into the pages that show them, in a form for reading.

    longtail reproduce medoe table-2 --data ../shared/data/ccp51 --budget small --weights MOBILENET_V2.pth
    python scripts/comparisons.py                  # every table on the pages that has been run

Each cell: ours, mean ± standard deviation over seeds; below it the change against the table's baseline, paired by seed, with
its p-value; below that the change that the paper prints for its data and schedule.
"""

import argparse
import json
import re
from typing import Any

from pages import ROOT, mean_and_spread, p_value, write_block

PAGES = (ROOT / "docs" / "papers" / "comparisons.md", ROOT / "docs" / "guide" / "choosing.md")
REPRODUCED = ROOT / "runs" / "reproduce"


def main() -> None:
    """Fill every block whose table is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for page in PAGES:
        for name in re.findall(r"<!-- (\w+ [\w-]+ \w+ \w+) -->", page.read_text()):
            paper, experiment, data, budget = name.split()
            found = sorted((REPRODUCED / paper / data / budget / "tables").glob(f"{experiment}-*.json"))
            if found:
                write_block(page, name, table(json.loads(found[0].read_text())))


def table(record: dict[str, Any]) -> str:
    """The Markdown of one outcome."""
    rows: dict[str, dict[str, dict[str, Any]]] = record["rows"]
    headers = list(next(iter(rows.values())))
    lines = ["| | seeds | " + " | ".join(headers) + " |", "|---|---:|" + "---:|" * len(headers)]
    for name, cells in rows.items():
        seeds = max((len(cell["values"]) for cell in cells.values()), default=0)
        lines.append(f"| {name} | {seeds} | " + " | ".join(_cell(cells[header]) for header in headers) + " |")
    return "\n".join([*lines, "", record["claims"]] if record["claims"] else lines)


def _cell(cell: dict[str, Any]) -> str:
    parts = [mean_and_spread(list(cell["values"].values()))]
    change = cell["change"]
    if change is not None and change["pairs"]:
        parts.append(f"{change['mean']:+.1f}" + ("" if change["p"] is None else f", {p_value(change['p'])}"))
    if cell["published_change"] is not None:
        parts.append(f"paper {cell['published_change']:+.1f}")
    return "<br>".join(parts)


if __name__ == "__main__":
    main()
