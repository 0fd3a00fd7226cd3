#!/usr/bin/env python3
"""Set everything up on first use, then run; needs uv, or Python >= 3.11 with pip >= 22.3.

python3 run.py demo          train, evaluate and report on synthetic scenes, in minutes
python3 run.py test          all tests (arguments go to pytest)
python3 run.py check         style, types and import floors
python3 run.py bench         benchmarks (arguments choose: expert_loss …)
python3 run.py docs          build the documentation into site/
python3 run.py COMMAND …     any command of longtail, such as `--help`
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
STAMP = VENV / ".installed"
CHECKS = (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], ["lint-imports"])


def fingerprint(installer: str, groups: tuple[str, ...]) -> str:
    """What the environment was built from; another value means that it must be built again."""
    digest = hashlib.sha256(f"{installer} {groups} {sys.version_info[:2]}".encode())
    for name in ("pyproject.toml", "uv.lock"):
        path = ROOT / name
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def install_commands(uv: str | None, groups: tuple[str, ...]) -> list[list[str]]:
    """The commands that build the environment, with uv where there is one."""
    if uv:
        return [[uv, "sync", "--inexact", *(word for group in groups for word in ("--group", group))]]
    if sys.version_info < (3, 11):  # noqa: UP036 (this file is run by whatever Python there is; uv brings its own)
        sys.exit(f"Python >= 3.11 is needed, this is {sys.version.split()[0]}; or install uv, which brings its own")
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    tools = [package for group in ("dev", *groups) for package in listed[group] if not package.startswith("longtail")]
    make = [] if (BIN / "python").exists() else [[sys.executable, "-m", "venv", "--without-pip", str(VENV)]]
    return [*make, [sys.executable, "-m", "pip", "--python", str(VENV), "install", "-e", f"{ROOT}[test]", *tools]]


def install(groups: tuple[str, ...] = ()) -> None:
    """Build the environment unless it is up to date."""
    uv = shutil.which("uv")
    wanted = fingerprint("uv" if uv else "pip", groups)
    if STAMP.is_file() and STAMP.read_text() == wanted:
        return
    # bytecode compiled now halves the time of every later import
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")}
    variables["UV_COMPILE_BYTECODE"] = "1"
    print(f"setting up {VENV} with {'uv' if uv else 'pip'} (once; about 3 GB on Linux)", file=sys.stderr, flush=True)
    for command in install_commands(uv, groups):
        if subprocess.call(command, cwd=ROOT, env=variables):
            sys.exit(f"setting up failed at: {' '.join(command)}")
    STAMP.write_text(wanted)


def commands(words: list[str]) -> list[list[str]]:
    """The commands that the words stand for, to run one after another."""
    python, (first, *rest) = str(BIN / "python"), words
    if first == "test":
        return [[python, "-m", "pytest", *rest]]
    if first == "check":
        return [[str(BIN / tool), *options] for tool, *options in CHECKS]
    if first == "bench":
        scripts = sorted(p for p in (ROOT / "benchmarks").glob("*.py") if p.stem not in ("harness", "__init__"))
        return [[python, str(p)] for p in scripts if not rest or p.stem in rest]
    if first == "docs":
        return [[python, "-m", "mkdocs", "build", *rest]]
    return [[python, "-m", "longtail", *(rest if first == "longtail" else words)]]


def main(words: list[str]) -> int:
    """Install what is missing and run; the exit code is the first that is not 0."""
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words else 2
    install(("docs",) if words[0] == "docs" else ())
    chosen = commands(words)
    if len(chosen) == 1 and os.name != "nt":
        os.chdir(ROOT if words[0] in ("test", "docs") else Path.cwd())
        os.execv(chosen[0][0], chosen[0])
    codes = [subprocess.call(command, cwd=ROOT) for command in chosen]
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
