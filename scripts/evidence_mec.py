"""Train, score and tabulate what docs/papers/mec.md states. What is there already is not run again.

    python scripts/evidence_mec.py run --seeds 0 1 2                       # hours on two cores; resumable
    python scripts/evidence_mec.py run --seeds 0 1 2 --classifiers cosine
    python scripts/evidence_mec.py table                                   # results -> docs/papers/mec.md

The cascade and the multi-expert cascade see the same images in the same order for the same number of iterations. All
ensembles of one run read the same stages, so each run is trained once and scored in one pass.
"""

import argparse
import math

from evidence import DATA, ROOT, RUNS, mean_and_spread, read_settings, say, write_block

PAGE = ROOT / "docs" / "papers" / "mec.md"
DATASET = "trashcan_lt"

#: Row of the paper's Table 2c -> (run, readout).
ROWS = {
    "Cascade R-CNN": ("baseline", "baseline"),
    "+ dynamic, aligned (no expert loss)": ("baseline", "dynamic_aligned"),
    "+ expert loss": ("mec", "average"),
    "+ expert loss, dynamic": ("mec", "dynamic_unaligned"),
    "+ expert loss, aligned": ("mec", "average_aligned"),
    "+ expert loss, aligned, sparse": ("mec", "sparse"),
    "**+ expert loss, aligned, dynamic = MEC**": ("mec", "mec"),
}
#: Column -> (metric, group); no group for all classes.
COLUMNS = {
    "box AP": ("AP", None),
    "r": ("AP", "rare"),
    "c": ("AP", "common"),
    "f": ("AP", "frequent"),
    "box AP-fixed": ("AP_fixed", None),
    "mask AP": ("mask_AP", None),
    "r ": ("mask_AP", "rare"),
    "c ": ("mask_AP", "common"),
    "f ": ("mask_AP", "frequent"),
    "mask AP-fixed": ("mask_AP_fixed", None),
}


def run(seeds: list[int], classifiers: list[str], methods: list[str]) -> None:
    """Train and score every combination that has no results yet."""
    from longtail.training.allocator import keep_freed_memory
    from longtail.training.config_file import from_dict
    from longtail.training.detection_config import DetectionConfig
    from longtail.training.detection_task import score_detection_run
    from longtail.training.fit import fit

    keep_freed_memory()
    for classifier in classifiers:
        for seed in seeds:
            for method in methods:
                folder = RUNS / DATASET / f"{method}-{classifier}-seed{seed}"
                if (folder / "results.json").is_file():
                    continue
                settings = read_settings(f"{DATASET}_{method}", DATASET, seed)
                settings["model"]["classifier"] = classifier
                # the last weights are scored, once: no validation chooses among them
                settings["data"]["val_split"] = ""
                fit(from_dict(DetectionConfig, settings), folder, resume=folder.is_dir())
                results = score_detection_run(folder, split="val", progress=False)
                say(f"{folder.name}: {results.own.overall} {results.own.groups}")


def table() -> None:
    """Write the tables into the page, between its markers."""
    from longtail.metrics.results import Prediction, Results

    def cell(predictions: list[Prediction], metric: str, group: str | None) -> str:
        values = [(p.overall if group is None else p.groups[group]).get(metric) for p in predictions]
        return mean_and_spread([100 * v for v in values if v is not None and not math.isnan(v)])

    for classifier in ("linear", "cosine"):
        lines = ["| | seeds | " + " | ".join(COLUMNS) + " |", "|---|---" + "|---:" * len(COLUMNS) + "|"]
        for name, (method, readout) in ROWS.items():
            files = sorted((RUNS / DATASET).glob(f"{method}-{classifier}-seed*/results.json"))
            found = [Results.load(path).predictions for path in files]
            predictions = [p[readout] for p in found if readout in p]
            if predictions:
                cells = [cell(predictions, *column) for column in COLUMNS.values()]
                lines.append(f"| {name} | {len(predictions)} | " + " | ".join(cells) + " |")
        write_block(PAGE, classifier, "\n".join(lines))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--classifiers", nargs="+", default=["linear", "cosine"])
    parser.add_argument("--methods", nargs="+", default=["baseline", "mec"])
    options = parser.parse_args()
    if options.command == "table":
        table()
    elif not (DATA / DATASET).is_dir():
        raise SystemExit(f"{DATA / DATASET} is not there: set LONGTAIL_DATA to the folder that holds {DATASET}")
    else:
        run(options.seeds, options.classifiers, options.methods)


if __name__ == "__main__":
    main()
