"""Train, score and tabulate what docs/papers/medoe.md states. What is there already is not run again.

    python scripts/evidence_medoe.py run --seeds 0                   # every row; hours on two cores; resumable
    python scripts/evidence_medoe.py run --seeds 0 1 2 --headline    # the headline rows of the other seeds
    python scripts/evidence_medoe.py table                                  # results -> docs/papers/medoe.md

Both methods see the same images, crops and number of iterations; MEDOE spends the last of them on its ensemble. All
ensembles of one MEDOE run share its experts, so they are fitted and scored together.
"""

import argparse

from evidence import ROOT, RUNS, mean_and_spread, read_settings, say, write_block

PAGE = ROOT / "docs" / "papers" / "medoe.md"

#: Row of the table -> (run, readout).
ROWS = {
    "baseline": ("baseline", "baseline"),
    "ME: three baselines averaged": ("model_ensemble", "model_ensemble"),
    "MED, expert 1 alone": ("medoe", "expert_1"),
    "MED, plain average": ("medoe", "mean"),
    "MED, softmax β = 0.3 (Table 6, 1)": ("medoe", "softmax_threshold"),
    "MED, argmax (Table 6, 2)": ("medoe", "argmax"),
    "MED, group average (Table 6, 3)": ("medoe", "group_average"),
    "MEDOE, Eq. 7–8 to the letter": ("medoe", "learned_literal"),
    "MEDOE, cross-entropy of scores": ("medoe", "learned_scores"),
    "**MEDOE** (default)": ("medoe", "medoe"),
    "oracle (Eq. 6; reads the truth)": ("medoe", "oracle"),
}


#: Ensembles that every seed fits; the others cost more than they tell and are fitted with the first seed alone.
HEADLINE = ("mean", "group_average")


def run(datasets: list[str], seeds: list[int], methods: list[str], headline: bool) -> None:
    """Train and score every combination that has no results yet."""
    from longtail.training.allocator import keep_freed_memory
    from longtail.training.config_file import from_dict
    from longtail.training.fit import fit
    from longtail.training.segmentation_config import SegmentationConfig
    from longtail.training.segmentation_task import score_run

    keep_freed_memory()
    for dataset in datasets:
        for seed in seeds:
            for method in methods:
                folder = RUNS / dataset / f"{method}-seed{seed}"
                if (folder / "results.json").is_file():
                    continue
                settings = read_settings(f"{dataset}_{method}", dataset, seed)
                others = settings["method"]["options"].get("comparisons", {})
                if headline and others:
                    settings["method"]["options"] |= {"comparisons": {k: v for k, v in others.items() if k in HEADLINE}}
                fit(from_dict(SegmentationConfig, settings), folder, resume=folder.is_dir())
                results = score_run(folder, progress=False)
                say(f"{dataset} {method} seed {seed}: {results.own.overall}")
        average_baselines(dataset, seeds)


def average_baselines(dataset: str, seeds: list[int]) -> None:
    """ME of Table 5 from the baselines of all seeds, once they are trained."""
    from longtail.models.segmenter import Segmenter
    from longtail.segmentation.model_ensemble import ModelEnsemble
    from longtail.training.config_file import from_dict, read_yaml
    from longtail.training.evaluate import evaluate
    from longtail.training.segmentation_config import SegmentationConfig
    from longtail.training.segmentation_task import open_validation

    folders = [RUNS / dataset / f"baseline-seed{seed}" for seed in seeds]
    target = RUNS / dataset / "model_ensemble" / "results.json"
    if target.is_file() or len(folders) < 3 or not all((f / "results.json").is_file() for f in folders):
        return
    members = [Segmenter.from_pretrained(folder) for folder in folders]
    config = from_dict(SegmentationConfig, read_yaml(folders[0] / "config.yaml"))
    results = evaluate(
        ModelEnsemble([m.method for m in members]),
        open_validation(config),
        groups=members[0].groups,
        frequency=members[0].frequency,
        pictures=0,
        data={"name": dataset, "split": config.data.val_split},
    )
    results.save(target)


def table() -> None:
    """Write the tables into the page, between its markers."""
    from longtail.metrics.results import Results

    for dataset in ("ccp51", "camvid11"):
        found = {
            name: [
                Results.load(path).predictions[readout]
                for path in sorted((RUNS / dataset).glob(f"{run}*/results.json"))
                if readout in Results.load(path).predictions
            ]
            for name, (run, readout) in ROWS.items()
        }
        groups = list(next(p for p in found.values() if p)[0].groups)
        columns = ["all", *groups]
        lines = ["| | seeds | " + " | ".join(f"{c} mIoU | {c} mAcc" for c in columns) + " |"]
        lines.append("|---|---" + "|---:|---:" * len(columns) + "|")
        for name, predictions in found.items():
            if not predictions:
                continue
            cells = []
            for column in columns:
                for metric in ("mIoU", "mAcc"):
                    values = [(p.overall if column == "all" else p.groups[column])[metric] for p in predictions]
                    cells.append(mean_and_spread([100 * v for v in values if v is not None]))
            lines.append(f"| {name} | {len(predictions)} | " + " | ".join(cells) + " |")
        write_block(PAGE, dataset, "\n".join(lines))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--datasets", nargs="+", default=["ccp51", "camvid11"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=["baseline", "medoe"])
    parser.add_argument("--headline", action="store_true", help="fit the ensembles of the headline rows alone")
    options = parser.parse_args()
    if options.command == "run":
        run(options.datasets, options.seeds, options.methods, options.headline)
    else:
        table()


if __name__ == "__main__":
    main()
