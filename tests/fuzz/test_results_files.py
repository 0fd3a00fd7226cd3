"""Results: damaged files are refused by the report, or shown."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from fuzz.harness import Tally, run, write_mutated
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.metrics.by_group import segmentation_prediction
from longtail.metrics.results import Results


@pytest.mark.parametrize("rounds", [12, pytest.param(2000, marks=pytest.mark.slow)])
def test_results_files(rounds: int, tmp_path: Path) -> None:
    groups = CategoryGroups.explicit({"head": [0], "tail": [1, 2]})
    frequency = ClassFrequency(("a", "b", "c"), np.array([9, 5, 1]), np.array([900, 90, 1]))
    confusion = torch.tensor([[90, 5, 5], [3, 20, 1], [2, 2, 6]])
    own = segmentation_prediction(confusion, groups, frequency)
    path = tmp_path / "results.json"
    Results(
        "segmentation", "ours", ["a", "b", "c"], groups.to_dict(), {"ours": own, "expert_1": own}, frequency.to_dict()
    ).save(path)
    content, rng, tally = json.loads(path.read_text()), random.Random(3), Tally()
    words = ["report", str(path), "--out", str(tmp_path / "report.html")]
    assert run(words).accepted
    for _ in range(rounds):
        word = write_mutated(path, content, rng)
        try:
            tally.add(word, run(words))
        except Exception as error:
            raise AssertionError(f"{word}: {error!r}") from error
    print(f"results.json: {tally}")
    assert tally.accepted and tally.refused
