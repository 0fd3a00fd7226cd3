"""Train, score and tabulate what docs/papers/mec.md states. What is there already is not run again.

    python scripts/evidence_mec.py run --seeds 0 1 2                       # hours on two cores; resumable
    python scripts/evidence_mec.py run --seeds 0 1 2 --classifiers cosine
    python scripts/evidence_mec.py readings --seeds 0 1 2                  # minutes: ensembles of recorded stages
    python scripts/evidence_mec.py table                                   # results -> docs/papers/mec.md

The cascade and the multi-expert cascade see the same images in the same order for the same number of iterations. All
ensembles of one run read the same stages, so each run is trained once and scored in one pass.
"""

import argparse
import math
from typing import Any

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


#: Reading of the ensembles -> settings of ``mec.build_ensemble``; boxes, scored on recorded stages.
READINGS: dict[str, dict[str, Any]] = {
    "average of logits (MMDetection)": {"name": "average", "average": "logits"},
    "average of probabilities (the paper, Detectron2)": {"name": "average", "average": "probabilities"},
    "dynamic, τ = 1": {"name": "dynamic", "align": False},
    "dynamic, τ = 5": {"name": "dynamic", "align": False, "temperature": 5.0},
    "aligned average of logits, background `relative`": {"name": "average", "align": True, "average": "logits"},
    "aligned average of probabilities, background `exclude`": {
        "name": "average",
        "align": True,
        "background": "exclude",
    },
    "aligned average of probabilities, background `relative`": {
        "name": "average",
        "align": True,
        "background": "relative",
    },
    "aligned average of probabilities, background `exempt`": {"name": "average", "align": True, "background": "exempt"},
    "aligned dynamic, background `exclude`": {"name": "dynamic", "background": "exclude"},
    "aligned dynamic, background `relative` (the default)": {"name": "dynamic", "background": "relative"},
    "aligned dynamic, background `exempt`": {"name": "dynamic", "background": "exempt"},
    "aligned dynamic, background `last_group`": {"name": "dynamic", "background": "last_group"},
    "aligned dynamic, `relative`, τ = 5": {"name": "dynamic", "background": "relative", "temperature": 5.0},
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


def readings(seeds: list[int]) -> None:
    """Record the stages of both methods with the linear classifier, and score every reading on them."""
    import torch

    from longtail.detection.recording import StageRecorder
    from longtail.models.detector import Detector
    from longtail.models.score_stages import recorded_detector, score_stages, stage_readouts
    from longtail.training.config_file import from_dict, read_yaml
    from longtail.training.detection_config import DetectionConfig
    from longtail.training.detection_task import open_validation

    for seed in seeds:
        for method in ("baseline", "mec"):
            folder = RUNS / DATASET / f"{method}-linear-seed{seed}"
            stages, out = folder / "stages", folder / "readings.json"
            if out.is_file():
                continue
            if not stages.is_dir():
                detector = Detector.from_pretrained(folder)
                data = open_validation(from_dict(DetectionConfig, read_yaml(folder / "config.yaml")), "val")
                with StageRecorder(stages) as recorder:
                    detector.save_description(stages)
                    for index in range(len(data)):
                        sample = data[index]
                        outputs = detector.method.stage_outputs([sample["image"].as_subclass(torch.Tensor)])
                        recorder.add([sample["image_id"]], outputs, [sample["original_size"]])
            recorded, cascade = recorded_detector(stages)
            results = score_stages(
                stages,
                DATA / DATASET / "annotations" / "val.json",
                stage_readouts(recorded, READINGS, own=[]),
                groups=recorded.groups,
                frequency=recorded.frequency,
                postprocess=cascade.config.postprocess,
                pooled=False,
            )
            results.save(out)
            say(
                f"{folder.name}: "
                + ", ".join(f"{n} {100 * p.overall['AP']:.1f}" for n, p in results.predictions.items())
            )


def levels() -> str:
    """Sum of a box's logits and its background logit in the recorded stages of the first seed, as a table."""
    import torch

    from longtail.detection.recording import read_recording

    lines = ["| | sum of all logits | background logit | mean class logit |", "|---|---:|---:|---:|"]
    for method, name in (("baseline", "Cascade R-CNN"), ("mec", "+ expert loss")):
        images = read_recording(RUNS / DATASET / f"{method}-linear-seed0" / "stages")
        logits = torch.cat([image.outputs.logits.flatten(0, 1) for image in images])
        columns = (logits.sum(dim=1), logits[:, -1], logits[:, :-1].mean(dim=1))
        lines.append(f"| {name} | " + " | ".join(f"{c.mean():.1f} ± {c.std():.1f}" for c in columns) + " |")
    return "\n".join(lines)


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
    columns = [f"{who} {column}" for who in ("Cascade", "expert loss") for column in ("box AP", "r", "c", "f")]
    lines = ["| | seeds | " + " | ".join(columns) + " |", "|---|---" + "|---:" * len(columns) + "|"]
    found = {
        method: [Results.load(p) for p in sorted((RUNS / DATASET).glob(f"{method}-linear-seed*/readings.json"))]
        for method in ("baseline", "mec")
    }
    for name in READINGS:
        cells = [
            cell([r.predictions[name] for r in results], "AP", group)
            for results in found.values()
            for group in (None, "rare", "common", "frequent")
        ]
        lines.append(f"| {name} | {len(found['mec'])} | " + " | ".join(cells) + " |")
    write_block(PAGE, "readings", "\n".join(lines))
    write_block(PAGE, "levels", levels())


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "readings", "table"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--classifiers", nargs="+", default=["linear", "cosine"])
    parser.add_argument("--methods", nargs="+", default=["baseline", "mec"])
    options = parser.parse_args()
    if options.command == "table":
        table()
    elif options.command == "readings":
        readings(options.seeds)
    elif not (DATA / DATASET).is_dir():
        raise SystemExit(f"{DATA / DATASET} is not there: set LONGTAIL_DATA to the folder that holds {DATASET}")
    else:
        run(options.seeds, options.classifiers, options.methods)


if __name__ == "__main__":
    main()
