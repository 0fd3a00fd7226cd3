"""Every benchmark still runs, and its sides still agree: each script compares them before it measures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SHORT = {
    "decoders": ["--only", "deeplabv3plus"],
    "medoe_step": ["--only", "deeplabv3plus"],
    "expert_loss": ["--images", "1"],
}
#: What others import or run, and what asks for lvis-api beside it or takes long.
ELSEWHERE = {"harness", "table", "scale", "scale_figures", "scale_processes", "lvis_evaluation"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({path.stem for path in FOLDER.glob("*.py")} - ELSEWHERE))
def test_runs_and_agrees(tmp_path, name):
    environment = {**os.environ, "LONGTAIL_BENCHMARK_RESULTS": str(tmp_path), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(FOLDER / f"{name}.py"), "--repeats", "1", *SHORT.get(name, [])]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for path in tmp_path.glob("*.json"):
        assert all(value > 0 for value in json.loads(path.read_text())["milliseconds"].values())
    assert list(tmp_path.glob("*.json"))
