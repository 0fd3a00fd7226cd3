"""Train and score the runs of the evidence, and keep the small part of their results that the tables read."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evidence_list import EVIDENCE, MAPPED, Run
from pages import DATA, PAPERS, ROOT, say

RUNS = ROOT / "runs" / "evidence"
KEPT = PAPERS / "evidence"
#: Per-class scores that are kept, of the method's own prediction.
_PER_CLASS = ("AP", "IoU", "Acc")
#: Averages of the baselines of several seeds (ME of MEDOE's Table 5) want as many.
_MEMBERS = 3


def folder_of(run: Run, seed: int, runs: Path = RUNS) -> Path:
    """The folder of a run."""
    return runs / run.dataset / f"{run.name}-seed{seed}"


def make(letters: list[str], seeds: list[int], runs: Path = RUNS) -> None:
    """Train, score and read every run that has no results yet; one that another process is at is left to it.

    Args:
        letters: Which parts of the evidence.
        seeds: Their seeds.
        runs: Folder of the runs.
    """
    for letter in letters:
        for seed in seeds:
            for run in EVIDENCE[letter][1]:
                make_one(run, seed, runs)
        for dataset in dict.fromkeys(run.dataset for run in EVIDENCE[letter][1]):
            average_baselines(dataset, seeds, runs)


def make_one(run: Run, seed: int, runs: Path = RUNS) -> None:
    """Train and score one run, after the one that it begins with; resume where it was killed."""
    folder = folder_of(run, seed, runs)
    with _locked(folder) as ours:
        if not ours:
            say(f"{folder.name}: another process is at it")
            return
        start = []
        if run.start_from is not None:
            first = folder.with_name(f"{run.start_from}-seed{seed}")
            if not (first / "best.safetensors").is_file():
                say(f"{folder.name}: waits for {first.name}")
                return
            start = ["--from", str(first)]
        if not (folder / "results.json").is_file():
            _train_and_score(run, seed, folder, runs, start)
        if (folder / "stages").is_dir() and not (folder / "readings.json").is_file():
            from evidence_readings import read

            read(folder)
    collect(runs)


def _train_and_score(run: Run, seed: int, folder: Path, runs: Path, start: list[str]) -> None:
    settings = run.settings(seed)
    if run.dataset in MAPPED:
        settings["data"]["dataset"] = str(map_classes(run.dataset, runs))
    elif "LONGTAIL_DATA" in os.environ:
        settings["data"]["dataset"] = str(DATA / run.dataset)
    if "LONGTAIL_DATA" in os.environ:
        network = settings["model"]["backbone"] if settings["task"] == "detection" else settings["model"]
        network["weights"] = str(DATA / "weights" / Path(network["weights"]).name)
    task, file = settings["task"], folder.with_name(folder.name + ".yaml")
    _write_yaml(settings, file)
    begun = (folder / "checkpoints" / "last.ckpt").is_file()
    how = ["--resume"] if begun else ["--overwrite", *start]
    _longtail("train", task, "--config", str(file), "--run", str(folder), *how, log=folder)
    record = []
    if task == "detection":
        shutil.rmtree(folder / "stages", ignore_errors=True)  # of an evaluation that was killed
        record = ["--record", str(folder / "stages")]
    _longtail("evaluate", str(folder), "--split", "val", *record, log=folder)


def average_baselines(dataset: str, seeds: list[int], runs: Path = RUNS) -> None:
    """ME of MEDOE's Table 5 from the baselines of all seeds, once they are trained."""
    from longtail.metrics.results import Results

    folders = [runs / dataset / f"baseline-seed{seed}" for seed in seeds]
    target = runs / dataset / f"model_ensemble-seed{seeds[0]}" / "results.json"
    done = len(folders) >= _MEMBERS and all((folder / "results.json").is_file() for folder in folders)
    if target.is_file() or not done or Results.load(folders[0] / "results.json").task != "segmentation":
        return
    from longtail.models.segmenter import Segmenter
    from longtail.segmentation.model_ensemble import ModelEnsemble
    from longtail.settings import from_dict, read_yaml
    from longtail.training.evaluate_segmentation import evaluate_segmentation
    from longtail.training.segmentation_config import SegmentationConfig
    from longtail.training.tasks.segmentation import SegmentationTask

    members = [Segmenter.from_pretrained(folder) for folder in folders]
    config = from_dict(SegmentationConfig, read_yaml(folders[0] / "config.yaml"))
    results = evaluate_segmentation(
        ModelEnsemble([member.method for member in members]),
        SegmentationTask.open_validation(config, "val"),
        groups=members[0].groups,
        frequency=members[0].frequency,
        readouts=["model_ensemble"],
        pictures=0,
        data={"name": dataset, "split": "val"},
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    results.save(target)
    collect(runs)


def map_classes(dataset: str, runs: Path = RUNS) -> Path:
    """The data set of ccp51's photographs with its classes put together; written once."""
    import numpy as np
    from PIL import Image

    source, target = DATA / "ccp51", runs / "data" / dataset
    if (target / "classes.json").is_file():
        return target
    table = np.arange(256, dtype=np.uint8)
    table[:255] = 0
    for index, ids in enumerate(MAPPED[dataset].values()):
        table[list(ids)] = index
    for file in sorted((source / "labels").glob("*/*.png")):
        out = target / "labels" / file.parent.name / file.name
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(table[np.asarray(Image.open(file))]).save(out)
    if not (target / "images").exists():
        (target / "images").symlink_to((source / "images").resolve(), target_is_directory=True)
    (target / "classes.json").write_text(
        json.dumps({"names": list(MAPPED[dataset])})
    )  # last: it says that all is there
    return target


def collect(runs: Path = RUNS) -> None:
    """Copy what the tables read of every scored run into ``docs/papers/evidence/DATASET/RUN/``."""
    for file in sorted(runs.glob("*/*/results.json")):
        target = KEPT / file.parent.parent.name / file.parent.name
        record = without_paths(trimmed(json.loads(file.read_text(encoding="utf-8"))))
        target.mkdir(parents=True, exist_ok=True)
        (target / "results.json").write_text(_lines(record), encoding="utf-8")
        readings = file.with_name("readings.json")
        if readings.is_file():
            shutil.copyfile(readings, target / "readings.json")


def trimmed(record: dict[str, Any]) -> dict[str, Any]:
    """A results record without what no table reads: maps of confusion, curves, most per-class scores.

    Without AP-fixed as well: the run's detections are cut to a number for each image, which AP-fixed is to do without.
    Readings have it of all detections.
    """
    for name, prediction in record["predictions"].items():
        for scores in (prediction["overall"], *prediction["groups"].values()):
            for metric in [metric for metric in scores if metric.endswith("AP_fixed")]:
                del scores[metric]
        own = name == record["method"]
        kept = {metric: values for metric, values in prediction["per_class"].items() if own and metric in _PER_CLASS}
        prediction |= {"per_class": kept, "extra": {}}
    return record


def without_paths(value: Any) -> Any:
    """Nested values in which each path of this machine is the name of its last part."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    if isinstance(value, float):
        return round(value, 6)
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def _lines(record: dict[str, Any]) -> str:
    """JSON with a line for each prediction: a change of one shows as one line."""
    from longtail.metrics.results import Results

    schema = record.pop("schema")
    predictions = record.pop("predictions")
    assert schema == json.loads(Results("segmentation", "a", [], {}, {}).to_json())["schema"]
    head = json.dumps({"schema": schema, **record}, ensure_ascii=False)
    body = ",\n".join(f"  {json.dumps(name)}: {json.dumps(item)}" for name, item in predictions.items())
    return f'{head[:-1]},\n "predictions": {{\n{body}\n}}}}\n'


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether this process alone is at the run."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _longtail(*words: str, log: Path) -> None:
    """Run the command line with one thread; what it says goes into a log beside the run folder."""
    say(f"{log.parent.name}/{log.name}: {' '.join(words[:2])}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    with log.with_name(log.name + ".log").open("a", encoding="utf-8") as output:
        command = [sys.executable, "-m", "longtail", *words]
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False).returncode
    if code:
        raise SystemExit(f"{log.name} failed with exit code {code}: see {output.name}")


def _write_yaml(settings: dict[str, Any], file: Path) -> None:
    import yaml

    file.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
