"""Frequencies and names of classes: damaged files are refused, or read as what they say."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fuzz.harness import Tally, run, write_mutated
from longtail.frequency import ClassFrequency
from longtail.metrics.results import Results

NAMES = ["sky", "sea", "boat"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    labels = np.repeat([0, 1, 2, 255], [40, 30, 20, 10]).astype(np.uint8).reshape(10, 10)
    predicted = np.where(labels == 255, 0, labels)
    predicted[:4, :3] = 1
    for name, pixels in (("labels", labels), ("predictions", predicted)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
    return tmp_path


def words(folder: Path, *more: str) -> list[str]:
    first = ["score", "segmentation", "--labels", str(folder / "labels"), "--predictions", str(folder / "predictions")]
    return [*first, "--out", str(folder / "results.json"), *more]


@pytest.mark.parametrize("rounds", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_frequency_files(rounds: int, folder: Path) -> None:
    good = folder / "frequency.json"
    ClassFrequency(tuple(NAMES), np.array([9, 5, 1]), np.array([900, 90, 1]), num_images=9).to_json(good)
    content, tally, rng = json.loads(good.read_text()), Tally(), random.Random(0)
    (folder / "labels/classes.txt").write_text("\n".join(NAMES))
    assert run(words(folder, "--frequency", str(good))).accepted
    expected = Results.load(folder / "results.json").own.overall
    for _ in range(rounds):
        word = write_mutated(good, content, rng)
        outcome = run(words(folder, "--frequency", str(good)))
        tally.add(word, outcome)
        if outcome.accepted:
            results, given = Results.load(folder / "results.json"), json.loads(good.read_text(encoding="utf-8-sig"))
            assert results.class_names == NAMES and results.own.overall == expected, word
            assert results.frequency is not None
            order = [given["class_names"].index(name) for name in NAMES]
            assert results.frequency["images"] == [given["images"][c] for c in order], word
    print(f"frequency files: {tally}")
    assert tally.refused and tally.accepted


@pytest.mark.parametrize("rounds", [60, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["classes.json", "classes.txt"])
def test_classes_files(name: str, rounds: int, folder: Path) -> None:
    content = {"names": NAMES, "palette": [[0, 0, 0], [9, 9, 9], [1, 2, 3]], "ignore_index": 255}
    path, tally, rng = folder / name, Tally(), random.Random(1)
    for _ in range(rounds):
        word = write_mutated(path, content, rng)
        if name == "classes.txt":
            path.write_bytes(path.read_bytes().replace(b'"', b"\n"))
        outcome = run(words(folder, "--classes", str(path)))
        tally.add(word, outcome)
        if outcome.accepted and name == "classes.json":
            record = json.loads(path.read_text(encoding="utf-8-sig"))
            names = [n.strip() for n in (record["names"] if isinstance(record, dict) else record)]
            while not names[-1]:
                names.pop()
            results = Results.load(folder / "results.json")
            assert results.class_names == names and len(set(names)) == len(names), word
            own = record.get("ignore_index") if isinstance(record, dict) else None
            assert results.settings["ignore_index"] == (255 if own is None else own), word
    print(f"{name}: {tally}")
    assert tally.refused
