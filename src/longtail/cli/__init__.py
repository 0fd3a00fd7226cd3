"""The command line: one file per command in ``cli/commands``."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns its exit code.

    0 done, 1 failed, 2 wrong usage, settings or data, 130 Ctrl-C, 143 SIGTERM.
    """
    import sys

    from longtail.cli.dispatch import dispatch

    _find_own_modules()
    _wait_passively()
    return dispatch(list(sys.argv[1:] if arguments is None else arguments))


def _wait_passively() -> None:
    """Let threads of OpenMP sleep while they wait for each other, unless the environment says otherwise.

    On a busy machine, threads that spin take the cores that the others need, and a step costs many times its CPU time
    (``benchmarks/busy_machine.py``). OpenMP reads the variable when torch is imported.
    """
    import os

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _find_own_modules() -> None:
    """Also import dotted paths from the working directory, as ``python -m longtail`` does; last, so that it hides nothing."""
    import sys
    from pathlib import Path

    try:
        here = str(Path.cwd())
    except OSError:
        return  # it was removed
    if not sys.flags.safe_path and here not in sys.path and "" not in sys.path:
        sys.path.append(here)
