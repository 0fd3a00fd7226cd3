"""Argument parsing with errors that say what was meant."""

import difflib
import re
import sys
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace


class Parser(ArgumentParser):
    """jsonargparse's parser: no abbreviations, and typo suggestions for options and settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong and leave with exit code 2."""
        problem = re.sub(r"\s+", " ", str(message)).strip()
        say_error(problem, self._suggestion(problem) or f"`{self.prog} --help` lists the options")
        sys.exit(2)

    def _suggestion(self, problem: str) -> str:
        known = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        keys = re.findall(r"(?:[Kk]ey|Option) [\"']([\w.]+)", problem)
        wrong = re.findall(r"--[\w.]+", problem) or [f"--{key}" for key in keys]
        for word in wrong:
            if word not in known:
                close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
                if close:
                    return f"did you mean {close[0]}?"
        return ""


def say_error(problem: str, fix: str) -> None:
    """Write a problem, in red on a terminal, and the way out to stderr."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text("error: ", style="bold red").append(problem, style="not bold red"))
    if fix:
        console.print(Text(f"  fix: {fix}"))


def chosen_device(name: str) -> str:
    """``auto`` as the best device of this machine; one a rank where there are several GPUs."""
    import os

    import torch

    if name != "auto":
        return name
    if torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


__all__ = ["Namespace", "Parser", "chosen_device", "say_error"]
