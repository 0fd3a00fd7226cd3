import subprocess
import sys
from pathlib import Path

import pytest

from longtail.errors import TrainingError
from longtail.reproduce import execute as module
from longtail.reproduce.execute import command, execute
from longtail.reproduce.plan import PlannedRun
from longtail.settings import read_yaml


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """Names of the runs in the order in which they were made; those called broken fail."""
    order: list[str] = []

    def run(words, *, env, stdout, stderr, check):
        assert words[:3] == [sys.executable, "-m", "longtail"]
        folder = Path(words[words.index("--run") + 1])
        order.append(folder.name)
        if "broken" in folder.name:
            stdout.write("loading\nerror: no such data\n  fix: name them\n")
            return subprocess.CompletedProcess(words, 2)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text("{}")
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(module.subprocess, "run", run)
    return order


def planned(tmp_path, name, start=None) -> PlannedRun:
    settings = {"iterations": {"train": 2}, "loading": {"batch_size": 1}}
    return PlannedRun("m/x", 0, "detection", tmp_path / name, settings, start and tmp_path / start)


def test_each_run_once_and_after_the_one_it_begins_with(tmp_path, made):
    runs = [planned(tmp_path, "first"), planned(tmp_path, "second", "first"), planned(tmp_path, "third")]
    said: list[str] = []
    execute(runs, jobs=2, say=said.append)
    assert sorted(made) == ["first", "second", "third"]
    assert made.index("first") < made.index("second")
    assert read_yaml(tmp_path / "second.yaml") == runs[1].settings
    execute(runs, say=said.append)
    assert len(made) == 3


def test_one_job_makes_runs_in_the_order_of_the_plan(tmp_path, made):
    runs = [planned(tmp_path, f"run{i:02}") for i in range(12)]
    execute(runs, say=lambda line: None)
    assert made == [run.folder.name for run in runs]


def test_a_failed_run_stops_what_needs_it_and_nothing_else(tmp_path, made):
    runs = [planned(tmp_path, "broken"), planned(tmp_path, "after", "broken"), planned(tmp_path, "other")]
    said: list[str] = []
    with pytest.raises(TrainingError, match=r"2 of 3 runs failed: broken, after(?s:.*)--settings"):
        execute(runs, say=said.append)
    assert sorted(made) == ["broken", "other"]
    assert any("error: no such data fix: name them" in line for line in said)


def test_command_is_what_one_would_type(tmp_path):
    run = planned(tmp_path, "second", "first")
    assert command(run) == [
        "train", "detection", "--config", str(tmp_path / "second.yaml"), "--run", str(tmp_path / "second"), "--resume",
        "--from", str(tmp_path / "first"),
    ]  # fmt: skip
