"""Argument parsing whose errors suggest the intended option."""

import difflib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace


class Parser(ArgumentParser):
    """jsonargparse's parser: no abbreviations, and typo suggestions for options and settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the problem and exit with code 2."""
        problem = re.sub(r"\s+", " ", str(message)).strip()
        problem = problem.replace("Unexpected config:", "a file given by --config holds no settings").rstrip()
        say_error(problem, self._suggestion(problem) or f"`{self.prog} --help` lists the options")
        sys.exit(2)

    def _suggestion(self, problem: str) -> str:
        known = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        keys = re.findall(r"(?:[Kk]ey|Option) [\"']([\w.]+)", problem)
        keys += [".".join(names) for names in re.findall(r"Group '([\w.]+)' .* option '([\w.]+)'", problem)]
        wrong = re.findall(r"--[\w.]+", problem) or [f"--{key}" for key in keys]
        for word in wrong:
            if word not in known:
                close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
                if close:
                    return f"did you mean {close[0]}?"
        if re.search(r"Got value: (None$|\{.*?:\S)", problem):
            return "give a value of that kind; YAML needs a space after a colon: {name: value}"
        if "holds no settings" in problem:
            return "write `setting: value` lines into it, or leave it out"
        return ""


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
    from longtail.errors import ConfigError

    for name in ("window", "stride") if detection else of_detection:
        value = getattr(arguments, name)
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

    from longtail.errors import ConfigError

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
