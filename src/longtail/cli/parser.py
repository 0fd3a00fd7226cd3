"""Argument parsing whose errors suggest the intended option."""

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import Namespace

from longtail.errors import ConfigError
from longtail.refusals import refusal
from longtail.settings import SettingsParser, read_yaml


class Parser(SettingsParser):
    """The parser of a command; what it refuses is printed, and the process left with exit code 2.

    Args:
        words: The words after the command: components that they name add their options.
        options: See ``SettingsParser``.
    """

    def __init__(self, words: Sequence[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self.words = list(words)

    #: What ``--help`` says after the command's own options.
    more_help: str = ""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong and leave."""
        problem, fix = refusal(self, " ".join(str(message).split()))
        say_error(f"{self.source}: {problem}" if self.source else problem, fix)
        sys.exit(2)

    def check_files(self, words: Sequence[str]) -> None:
        """Refuse files of ``--config`` that hold other than settings, by their names."""
        for word, after in zip(words, [*words[1:], ""], strict=False):
            path = after if word == "--config" else word.partition("=")[2] if word.startswith("--config=") else ""
            if path:
                try:
                    self.source, self.values = path, read_yaml(path)
                except ConfigError as error:
                    say_error(error.problem, error.fix)
                    sys.exit(2)
                self.parse_object(self.values, defaults=False)
        self.source, self.values = "", {}

    def format_help(self, *formatter: Any) -> str:
        """The options, then ``more_help``."""
        return super().format_help(*formatter) + (f"\n{self.more_help}" if self.more_help else "")


def say_error(problem: str, fix: str) -> None:
    """Write a problem, in red on a terminal, and the way out to stderr."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text("error: ", style="bold red").append(problem, style="not bold red"))
    if fix:
        console.print(Text(f"  fix: {fix}"))


def say_warning(problem: str) -> None:
    """Write a doubt, in yellow on a terminal, to stderr."""
    from rich.console import Console
    from rich.text import Text

    warning = Text("warning: ", style="bold yellow").append(problem, style="not bold yellow")
    Console(stderr=True, highlight=False, soft_wrap=True).print(warning)


def refuse_misplaced(arguments: Namespace, detection: bool, of_detection: Sequence[str]) -> None:
    """Refuse options of the other task, and a step without a window: they would be ignored silently.

    Raises:
        ConfigError: One is given.
    """
    for name in ("window", "stride", "tau", "taus", "save") if detection else of_detection:
        value = getattr(arguments, name, None)
        if value is not None and value is not False:
            raise ConfigError(f"--{name} is not for {'detection' if detection else 'segmentation'}", fix="leave it out")
    if arguments.stride is not None and arguments.window is None:
        raise ConfigError("--stride without --window", fix="give the --window that moves by it, or leave it out")


def chosen_device(name: str) -> str:
    """``auto`` as the best device of this machine; one per rank where there are several GPUs.

    Raises:
        ConfigError: This machine has no such device.
    """
    import os

    import torch

    if name != "auto":
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            why = str(error).partition(". ")[0].splitlines()[0]
            raise ConfigError(
                f"cannot compute on {name}: {why}", fix="choose auto, cpu or a device of this machine"
            ) from error
        return name
    if torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


__all__ = ["Namespace", "Parser", "chosen_device", "refuse_misplaced", "say_error", "say_warning"]
