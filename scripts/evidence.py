"""What the evidence scripts share: where things are, and how a table cell and a page are written."""

import os
import re
import statistics
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LONGTAIL_DATA", ROOT.parent / "shared" / "data"))
RUNS = ROOT / "runs" / "evidence"


def read_settings(name: str, dataset: str, seed: int) -> dict[str, Any]:
    """``configs/evidence/NAME.yaml`` with the data where they lie on this machine."""
    from longtail.training.config_file import read_yaml

    settings = read_yaml(ROOT / "configs" / "evidence" / f"{name}.yaml")
    settings["seed"] = seed
    settings["data"]["dataset"] = str(DATA / dataset)
    settings["model"]["weights"] = str(DATA / "weights" / Path(settings["model"]["weights"]).name)
    return settings


def mean_and_spread(values: list[float]) -> str:
    """``mean ± standard deviation`` over seeds; the mean alone of one seed."""
    if not values:
        return "–"
    mean = statistics.mean(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def write_block(page: Path, name: str, block: str) -> None:
    """Put ``block`` between the markers ``<!-- NAME -->`` and ``<!-- end NAME -->`` of a page."""
    text = page.read_text()
    marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.S)
    if not marked.search(text):
        raise SystemExit(f"{page} has no markers for {name}")
    page.write_text(marked.sub(lambda match: match[1] + block + "\n" + match[2], text))
    say(f"{name}\n{block}")


def say(text: str) -> None:
    """Print, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
