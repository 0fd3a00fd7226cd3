"""``run.py`` without a network: what it would install and run."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("run", ROOT / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "uv.lock").write_text("1")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "BIN", tmp_path / ".venv" / "bin")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / ".installed")
    return module


def test_words_become_commands(run):
    python = str(run.BIN / "python")
    assert run.commands(["test", "-m", "slow"]) == [[python, "-m", "pytest", "-m", "slow"]]
    assert run.commands(["demo"]) == [[python, "-m", "longtail", "demo"]]
    assert run.commands(["longtail", "--help"]) == [[python, "-m", "longtail", "--help"]]
    assert [Path(c[0]).name for c in run.commands(["check"])] == ["ruff", "ruff", "mypy", "lint-imports"]


def test_uv_is_preferred_and_pip_needs_nothing_else(run):
    assert run.install_commands("/bin/uv", ("docs",)) == [["/bin/uv", "sync", "--inexact", "--group", "docs"]]
    make, install = run.install_commands(None, ())
    assert make == [sys.executable, "-m", "venv", "--without-pip", str(run.VENV)]
    assert install[1:5] == ["-m", "pip", "--python", str(run.VENV)]
    assert f"{run.ROOT}[test]" in install and any(word.startswith("ruff") for word in install)


def test_installation_is_repeated_only_when_requirements_change(run, monkeypatch):
    calls = []

    def call(command, cwd, env):
        calls.append((command, env))
        run.VENV.mkdir(exist_ok=True)
        return 0

    monkeypatch.setattr(run.subprocess, "call", call)
    monkeypatch.setattr(run.shutil, "which", lambda name: "/bin/uv")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    run.install()
    run.install()
    assert len(calls) == 1
    assert "PYTHONDONTWRITEBYTECODE" not in calls[0][1] and calls[0][1]["UV_COMPILE_BYTECODE"] == "1"
    (run.ROOT / "uv.lock").write_text("2")
    run.install()
    assert len(calls) == 2


def test_a_failed_installation_is_said_and_not_remembered(run, monkeypatch):
    monkeypatch.setattr(run.subprocess, "call", lambda *a, **k: 1)
    with pytest.raises(SystemExit, match="setting up failed at"):
        run.install()
    assert not run.STAMP.exists()


def test_help_needs_no_installation():
    done = subprocess.run([sys.executable, str(ROOT / "run.py")], capture_output=True, text=True)
    assert done.returncode == 2 and "python3 run.py demo" in done.stdout


def test_continuous_integration_runs_the_tests():
    script = ROOT / ".ci" / "run"
    assert script.read_text().startswith("#!/usr/bin/env bash\n") and "run.py test" in script.read_text()
    assert os.access(script, os.X_OK)
