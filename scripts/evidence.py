"""Evidence: train and score the runs of the papers' pages, and write their tables.

    python scripts/evidence.py list                        # what there is, and its state
    python scripts/evidence.py run a b --seeds 0 1 2       # hours on two cores, one thread; resumable
    python scripts/evidence.py table                       # docs/papers/evidence/ -> the tables of the pages

Two processes of `run` share the work: each takes the next run that nobody is at. Weights, recorded stages and logs stay in
the folder of the runs; `results.json` and `readings.json`, without pictures and paths, are copied to docs/papers/evidence/.
The data are looked for in ../shared/data, or where LONGTAIL_DATA says.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from evidence_list import EVIDENCE
from evidence_readings import CALIBRATIONS
from evidence_runs import RUNS, collect, folder_of, make
from evidence_tables import BOXES, LIMITED, PIXELS, Row, chosen_taus, every_reading, oracle_gap, signs, table
from pages import PAPERS, blocks_of, say, write_block

PAGES = tuple(PAPERS / name for name in ("medoe.md", "mec.md", "comparisons.md"))

_TAUS = ("0.0", "0.1", "0.2", "0.3", "0.4", "0.5")
_A = {"Cascade": "tinyin200_lt/baseline", "expert loss": "tinyin200_lt/mec"}
_E = {
    f"{dataset}, {optimiser}, {title}": f"{dataset}/{name}{'' if optimiser == 'SGD' else '_adamw'}"
    for dataset in ("tinyin200_lt", "trashcan_lt")
    for optimiser in ("SGD", "AdamW")
    for title, name in (("cascade", "baseline"), ("expert loss", "mec"))
}


def _table_2c(dataset: str) -> str:
    """Rows of MEC's Table 2c, and the average of probabilities."""
    baseline, mec = f"{dataset}/baseline", f"{dataset}/mec"
    plain = Row("Cascade R-CNN, average of logits (MMDetection)", baseline, "average of logits")
    rows = [
        plain,
        Row("Cascade R-CNN, average of probabilities (the paper's formula)", baseline, "average of probabilities"),
        Row("+ alignment, dynamic", baseline, "dynamic, aligned, τ = 1"),
        Row("+ alignment, dynamic, τ = 5", baseline, "dynamic, aligned, τ = 5"),
        Row("+ expert loss", mec, "average of logits"),
        Row("+ expert loss, dynamic", mec, "dynamic, τ = 1"),
        Row("+ expert loss, alignment", mec, "average of logits, aligned, relative"),
        Row("+ expert loss, alignment, sparse", mec, "sparse, aligned, relative"),
        Row("**+ expert loss, alignment, dynamic = MEC**", mec, "dynamic, aligned, τ = 1"),
        Row("MEC, τ = 5", mec, "dynamic, aligned, τ = 5"),
    ]
    return table(rows, BOXES, plain)


def _table_2a(dataset: str) -> str:
    """Rows of MEC's Table 2a."""
    names = [run.name for run in EVIDENCE["f"][1]]
    plain = Row("Cascade R-CNN", f"{dataset}/baseline", "average of logits")
    rows = [plain, *(Row(name.replace("_", " "), f"{dataset}/{name}", "baseline") for name in names)]
    rows += [Row(name, f"{dataset}/baseline", f"average of logits, {name}") for name in CALIBRATIONS]
    return table([*rows, Row("MEC", f"{dataset}/mec", "dynamic, aligned, τ = 1")], BOXES, plain)


def _stages(dataset: str) -> str:
    rows = [
        Row(f"{title}, stage {k}", run, f"stage_{k}")
        for title, run in (("Cascade", f"{dataset}/baseline"), ("expert loss", f"{dataset}/mec"))
        for k in (1, 2, 3)
    ]
    return table(rows, LIMITED)


def _pixel_rows(dataset: str) -> dict[str, Row]:
    """Rows of MEDOE's evidence by a short name."""
    baseline, medoe = f"{dataset}/baseline", f"{dataset}/medoe"
    adjusted = {
        f"adjusted {tau}": Row(
            f"baseline, logit adjustment τ = {tau}", baseline, f"logit_adjusted_{tau.replace('.', '_')}"
        )
        for tau in ("0.1", "0.2", "0.3", "0.5", "1")
    }
    chains = {
        f"chain {tau}": Row(f"nested chain, τ = {float(tau):g}", medoe, f"nested_chain_{tau.replace('.', '_')}")
        for tau in _TAUS
    }
    return {
        "baseline": Row("baseline", baseline, "baseline"),
        **adjusted,
        "ME": Row("ME: three baselines averaged", f"{dataset}/model_ensemble", "model_ensemble"),
        "expert 1": Row("MED, expert 1 alone", medoe, "expert_1"),
        "mean": Row("MED, plain average", medoe, "mean"),
        "surest": Row("MED, softmax β = 0.3 (Table 6, 1), surest claim", medoe, "softmax_threshold"),
        "tail first": Row("MED, softmax β = 0.3, tail first", medoe, "softmax_tail_first"),
        "head first": Row("MED, softmax β = 0.3, head first", medoe, "softmax_head_first"),
        "argmax": Row("MED, argmax (Table 6, 2)", medoe, "argmax"),
        "group average": Row("MED, group average (Table 6, 3)", medoe, "group_average"),
        "literal": Row("MEDOE, Eq. 7–8 to the letter", medoe, "learned_literal"),
        "scores": Row("MEDOE, cross-entropy of scores", medoe, "learned_scores"),
        "medoe": Row("**MEDOE** (learned ensemble)", medoe, "medoe"),
        **chains,
        "oracle": Row("oracle (Eq. 6; reads the truth)", medoe, "oracle"),
    }


def _pixels(dataset: str) -> str:
    rows = _pixel_rows(dataset)
    return table(list(rows.values()), PIXELS, rows["baseline"])


def _against_learned(dataset: str) -> str:
    rows = _pixel_rows(dataset)
    kept = [rows[name] for name in ("medoe", *(f"chain {tau}" for tau in _TAUS), "group average", "expert 1")]
    return table(kept, PIXELS, rows["medoe"])


def _added(dataset: str) -> str:
    """Experts added to the finished baseline, next to MEDOE trained as a whole."""
    rows = _pixel_rows(dataset)
    names = ("medoe", "chain 0.0", "chain 0.2", "oracle")
    added = [Row(f"added: {rows[n].label.replace('**', '')}", f"{dataset}/medoe_added", rows[n].readout) for n in names]
    return table([rows["baseline"], *added, *(rows[n] for n in names)], PIXELS, rows["baseline"])


def _gap(dataset: str) -> str:
    rows = _pixel_rows(dataset)
    names = ("expert 1", "group average", "medoe", *(f"chain {tau}" for tau in _TAUS))
    return oracle_gap([rows[name] for name in names], rows["baseline"], rows["oracle"])


def _methods(letter: str, dataset: str, *first: Row) -> str:
    """Every run of a part of the evidence by its own prediction."""
    rows = [Row(run.name.replace("_", " "), f"{dataset}/{run.name}", _own(run.name)) for run in EVIDENCE[letter][1]]
    rows = [*first, *(row for row in dict.fromkeys(rows) if row.label != "baseline")]
    return table(rows, PIXELS, first[0])


def _own(name: str) -> str:
    return "medoe" if name.startswith("medoe") else "baseline"


#: Block of a page -> its text.
BLOCKS: dict[str, Callable[[], str]] = {
    "a parts": lambda: _table_2c("tinyin200_lt"),
    "a stages": lambda: _stages("tinyin200_lt"),
    "a tau": lambda: chosen_taus(_A),
    "a readings": lambda: every_reading(_A),
    "b": lambda: _pixels("ccp51"),
    "b against learned": lambda: _against_learned("ccp51"),
    "b gap": lambda: _gap("ccp51"),
    "c": lambda: _pixels("camvid11"),
    "c against learned": lambda: _against_learned("camvid11"),
    "c gap": lambda: _gap("camvid11"),
    "d ccp51": lambda: _added("ccp51"),
    "d camvid11": lambda: _added("camvid11"),
    "e": lambda: signs(_E),
    "f": lambda: _table_2a("tinyin200_lt"),
    "g": lambda: _methods("g", "ccp51", Row("baseline", "ccp51/baseline", "baseline")),
    "h shoes": lambda: _few("ccp51shoes"),
    "h eight": lambda: _few("ccp51eight"),
}


def _few(dataset: str) -> str:
    base = Row("baseline", f"{dataset}/baseline", "baseline")
    half = Row("baseline, logit adjustment τ = 0.5", f"{dataset}/baseline", "logit_adjusted_0_5")
    whole = Row("baseline, logit adjustment τ = 1", f"{dataset}/baseline", "logit_adjusted_1")
    chain = Row("medoe, nested chain τ = 0.2", f"{dataset}/medoe", "nested_chain_0_2")
    return _methods("h", dataset, base, half, whole, chain)


def tables() -> None:
    """Fill every block of the pages that is known here."""
    for page in PAGES:
        for name in blocks_of(page):
            if name in BLOCKS:
                write_block(page, name, BLOCKS[name]())


def listing(runs: Path) -> None:
    """Print every run and its state."""
    for letter, (title, found) in EVIDENCE.items():
        say(f"{letter}: {title}")
        for run in found:
            seeds = [int(f.name.rpartition("-seed")[2]) for f in (runs / run.dataset).glob(f"{run.name}-seed[0-9]*/")]
            done = [seed for seed in sorted(seeds) if (folder_of(run, seed, runs) / "results.json").is_file()]
            say(f"   {run.dataset}/{run.name}: seeds done {done}, begun {sorted(set(seeds) - set(done))}")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("list", "run", "collect", "table"))
    parser.add_argument("letters", nargs="*", help=f"parts of the evidence: {', '.join(EVIDENCE)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs")
    options = parser.parse_args()
    if unknown := set(options.letters) - set(EVIDENCE):
        parser.error(f"there is no evidence {', '.join(sorted(unknown))}: choose from {', '.join(EVIDENCE)}")
    if options.command == "run":
        make(options.letters or list(EVIDENCE), options.seeds, options.runs.resolve())
    elif options.command == "collect":
        collect(options.runs.resolve())
    elif options.command == "table":
        tables()
    else:
        listing(options.runs.resolve())


if __name__ == "__main__":
    main()
