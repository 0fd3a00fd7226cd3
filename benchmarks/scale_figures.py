"""Draw ``docs/assets/scale_*.svg`` from ``results/scale/*.json``: ``python benchmarks/scale_figures.py``."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from longtail.reports.axes import SERIES_COLOURS
from longtail.reports.svg import new_figure, style, write_figure

RESULTS = Path(__file__).parent / "results" / "scale"
OUT = Path(__file__).parents[1] / "docs" / "assets"
_PLAIN = FuncFormatter(lambda value, _: f"{value:,g}")
_COLOURS = (*SERIES_COLOURS[1:], SERIES_COLOURS[0])


def cost_figure(record: dict[str, Any], axis: str) -> tuple[Any, str]:
    """Time and memory against one size, both on log scales."""
    figure, axes = new_figure(9.0, 3.3, columns=2)
    for panel, key, title in zip(axes.flat, ("ms", "mib"), ("CPU time, ms", "peak memory, MiB"), strict=True):
        for colour, (label, cost) in zip(_COLOURS, record["series"].items(), strict=False):
            panel.plot(cost.get("x", record["x"]), cost[key], "o-", color=colour, label=label, markersize=4)
        panel.set_title(title)
        panel.set_xlabel(axis)
        wide = record["x"][-1] >= 8 * record["x"][0]
        _ticks(panel, record["x"], log=wide)
        if wide:
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter(_PLAIN)
        else:
            panel.set_ylim(bottom=0)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure, "one thread"


def worker_figure(record: dict[str, Any], axis: str) -> tuple[Any, str]:
    """CPU time by process, and the images a second that free cores would give by it."""
    figure, axes = new_figure(9.0, 3.0, columns=2)
    left, right = axes.flat
    parent, workers = (record["series"][f"CPU of the {who}"]["ms"] for who in ("parent", "workers"))
    images = record["images"]
    left.bar([0, 1], workers, 0.5, color=_COLOURS[0], label="workers")
    left.bar([0, 1], parent, 0.5, bottom=workers, color=_COLOURS[2], label="parent")
    left.set_xticks([0, 1], ["1", "2"])
    left.set_xlabel(axis)
    left.set_title(f"CPU time of {images:,} label maps, ms")
    left.legend()
    cores = [1, 2, 4, 8, 16, 32, 64]
    one = 1e3 * images / workers[0]
    bound = [one] + [1e3 * images / max(workers[1] / n, parent[1]) for n in cores[1:]]
    right.plot(cores, [one * n for n in cores], "--", color=_COLOURS[-1], label="n times one process")
    right.plot(cores, bound, "o-", color=_COLOURS[0], label="arithmetic from the CPU times", markersize=4)
    measured = [1e3 * images / wall for wall in record["series"]["wall"]["ms"]]
    right.plot([1, 2], measured, "s", color=_COLOURS[2], label="measured", markersize=5)
    right.set_yscale("log")
    right.yaxis.set_major_formatter(_PLAIN)
    right.set_title("images a second on n free cores")
    right.set_xlabel("cores")
    _ticks(right, cores, log=True)
    right.legend()
    return figure, f"measured on two cores, load {record['load']:.1f} before; beyond them the right side is arithmetic"


def rank_figure(record: dict[str, Any], axis: str) -> tuple[Any, str]:
    """Bytes that every rank sends for one sum over all."""
    figure, axes = new_figure(9.0, 3.4)
    ranks = record["x"][1:]
    for colour, (label, cost) in zip(_COLOURS, record["series"].items(), strict=False):
        known = f"{label}; 2 gloo ranks: {cost['wall_ms_of_2']:.1f} ms"
        axes.plot(ranks, cost["mib"][1:], "o-", color=colour, label=known, markersize=4)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_PLAIN)
    axes.set_title("MiB that each rank sends for one sum over all ranks")
    axes.set_xlabel(axis)
    _ticks(axes, ranks, log=True)
    figure.legend(loc="outside upper left", ncols=1)
    return figure, "bytes are arithmetic (ring); fastest of 7 with 2 ranks on a shared machine"


def _ticks(axes: Axes, values: list[int], *, log: bool) -> None:
    if log:
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(values)
    axes.xaxis.set_major_formatter(_PLAIN)


#: Result -> what its x axis is, and how it is drawn.
FIGURES: dict[str, tuple[str, Callable[[dict[str, Any], str], tuple[Any, str]]]] = {
    "classes": ("classes", cost_figure),
    "experts": ("experts", cost_figure),
    "resolution": ("side of the image, pixels", cost_figure),
    "images": ("images", cost_figure),
    "workers": ("processes", worker_figure),
    "ranks": ("ranks", rank_figure),
}


def main() -> None:
    for name, (axis, draw) in FIGURES.items():
        record = json.loads((RESULTS / f"{name}.json").read_text())
        with style():
            figure, how = draw(record, axis)
            machine = record["machine"]
            caption = f"{machine['cpu']}, torch {machine['torch']}, {record['date']}; {how}; scale.py --only {name}"
            figure.supxlabel(caption, fontsize=7)
            path = write_figure(figure, OUT / f"scale_{name}.svg")
        sys.stdout.write(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    main()
