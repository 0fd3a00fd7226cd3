"""Render README.md from the committed results: ``python benchmarks/table.py``."""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: What each row set out to reach: times faster than its first side, and share of its memory.
GOALS = {
    "added_experts_mobilenet_v2": "1.15x and 1.2x of the floors",
    "added_experts_resnet50": "1.15x and 1.2x of the floors",
    "bootstrap": "5x",
    "colour_labels": "1.5x of the floor",
    "confusion_matrix_ade20k": "20x",
    "confusion_matrix_cityscapes": "20x",
    "detection_diagnosis": "all under ten times the AP",
    "detection_errors": "5x",
    "dynamic_ensemble": "7x",
    "expert_loss": "4x, 1/20",
    "frequency_pass": "1.3x of the floor",
    "frequency_pass_camvid": "1.3x of the floor",
    "lazy_nms_181k": "25x, 1/50",
    "learned_ensemble_labels": "4x, 1/20",
    "learned_ensemble_step": "4x, 1/20",
    "lvis_evaluation": "40x, 1/5",
    "mask_run_lengths": "10x, 1/50",
    "medoe_labels_deeplabv3plus": "0.67x, 1/1",
    "medoe_labels_pspnet": "0.74x, 1/1",
    "medoe_labels_segformer": "0.95x, 1/1",
    "medoe_step_deeplabv3plus": "0.67x, 1/1",
    "medoe_step_pspnet": "0.83x, 1/1",
    "medoe_step_segformer": "1x, 1/1",
    "multi_expert_loss": "7x, 1/3",
    "nested_chain_labels": "1x",
    "query_prediction": "0.98x",
    "query_step": "0.97x",
    "training_command": "0.95x",
    "training_sample_ade20k": "2x",
    "training_sample_cityscapes": "2x",
    "training_sample_detection": "2x, or hidden",
    "uniform_cells_ade20k_noisy": "6x",
    "uniform_cells_ade20k_smooth": "6x",
    "uniform_cells_cityscapes_noisy": "6x",
    "uniform_cells_cityscapes_smooth": "6x",
}
COLUMNS = """\
| what | goal | side | ms | times faster | of the floor | peak MiB |
|---|---|---|---:|---:|---:|---:|
"""
HEAD = """\
# Benchmarks

One script a row: both sides in one process, alternating, one pinned thread, medians of CPU time, peak bytes that torch held
(numpy, for run lengths; what its process grew by, for a side that has one of its own).
The first side is what a user would otherwise run. Machines are shared and noisy: read the ratios, not the milliseconds.
This page is written by `python benchmarks/table.py` from `results/*.json`, which the scripts write:
`OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/NAME.py`; on a GPU, what reads tensors only: `… --device cuda`.
How costs grow with classes, experts, resolution, images, processes and ranks: `scale.py`, drawn by `scale_figures.py` as
[docs/assets/scale_*.svg](../docs/assets).

"""


def rows(record: dict[str, Any]) -> str:
    """Table rows of one result, the peer first."""
    floor = record.get("floor")
    lines = []
    for side, milliseconds in record["milliseconds"].items():
        own = side == record["peer"]
        first = f"**{record['name']}**: {record['note']}" if own else ""
        goal = GOALS.get(record["name"], "") if own else ""
        over = f"{milliseconds / record['milliseconds'][floor]:.2f}x" if floor else "–"
        memory = record["peak_mib"][side]
        shown = f"{memory:,.1f}" if memory else "–"
        faster = f"{record['times_faster'][side]:,.2f}"
        lines.append(f"| {first} | {goal} | {side} | {milliseconds:,.1f} | {faster} | {over} | {shown} |")
    return "\n".join(lines)


def page(records: list[dict[str, Any]], of_gpu: list[dict[str, Any]]) -> str:
    """The whole page."""
    where = sorted({(r["date"], r["machine"]["cpu"], r["machine"]["torch"]) for r in records})
    machines = "\n".join(f"- {date}: {cpu}, one thread, torch {torch}, no GPU" for date, cpu, torch in where)
    body = "\n".join(rows(r) for r in records)
    gpu = "\n".join(rows(r) for r in of_gpu)
    cards = sorted({f"{r['machine']['gpu']}, torch {r['machine']['torch']}, {r['date']}" for r in of_gpu})
    on_gpu = f"## On a GPU\n\n{'; '.join(cards)}\n\n{COLUMNS}{gpu}\n\n" if of_gpu else ""
    return (
        f"{HEAD}{COLUMNS}{body}\n\nA dash for the floor: no side of that row is one. A dash for memory: nothing held "
        f"in torch tensors.\n\n{on_gpu}## Machines\n\n{machines}\n"
    )


def main() -> None:
    records = [json.loads(path.read_text()) for path in sorted((HERE / "results").glob("*.json"))]
    of_gpu = [json.loads(path.read_text()) for path in sorted((HERE / "results" / "gpu").glob("*.json"))]
    text = page(records, of_gpu)
    (HERE / "README.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
