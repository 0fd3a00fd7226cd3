"""The command line: one file a command in ``cli/commands``."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns its exit code.

    0 done, 1 failed, 2 wrong usage, settings or data, 130 Ctrl-C, 143 SIGTERM.
    """
    import sys

    from longtail.cli.dispatch import dispatch

    return dispatch(list(sys.argv[1:] if arguments is None else arguments))
