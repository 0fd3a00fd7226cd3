"""From words to a command, and from errors to exit codes."""

import difflib
import os
import pkgutil
import re
import sys
from importlib import import_module
from types import ModuleType

from longtail.cli import commands
from longtail.cli.parser import Parser, say_error
from longtail.errors import LongtailError
from longtail.training.allocator import keep_freed_memory

_OPTION = re.compile(r"(?<=^--)[a-z][\w-]*")
_DESCRIPTION = "Multi-expert models for long-tailed segmentation and detection."


def all_commands() -> dict[str, ModuleType]:
    """Name -> module of every command; names may have two words."""
    found = [import_module(f"{commands.__name__}.{info.name}") for info in pkgutil.iter_modules(commands.__path__)]
    return {module.NAME: module for module in sorted(found, key=lambda m: getattr(m, "ORDER", 50))}


def dispatch(words: list[str]) -> int:
    """Run a command; errors that a user can mend become one message and an exit code."""
    debug = "--debug" in words or os.environ.get("LONGTAIL_DEBUG", "") not in ("", "0")
    words = [word for word in words if word != "--debug"]
    try:
        return _run(words)
    except LongtailError as error:
        if debug:
            raise
        say_error(error.problem, error.fix)
        return error.exit_code
    except KeyboardInterrupt:
        if debug:
            raise
        say_error("interrupted", "")
        return 130
    except BrokenPipeError:
        # the reader of a pipe has gone (`longtail … | head`): print and flush nothing more
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _run(words: list[str]) -> int:
    known = all_commands()
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in known and len(words) >= length:
            return _run_command(known[name], words[length:])
    group = {name: module for name, module in known.items() if words and name.startswith(f"{words[0]} ")}
    if group:
        rest = [word for word in words[1:] if not word.startswith("-")]
        return _list(group, words[0]) if not rest else _unknown(" ".join(words[:2]), known)
    if words and words[0] == "--version":
        from longtail.version import __version__

        sys.stdout.write(f"{__version__}\n")
        return 0
    if not words or words[0] in ("-h", "--help", "help"):
        return _list(known) if words else _list(known) or 2
    return _unknown(words[0], known)


def _run_command(module: ModuleType, words: list[str]) -> int:
    words = [_OPTION.sub(lambda name: name[0].replace("-", "_"), word) for word in words]  # --dry-run as --dry_run
    if hasattr(module, "prepare"):
        words = module.prepare(words)
    parser = Parser(words, prog=f"longtail {module.NAME}", description=module.__doc__)
    module.add_arguments(parser)
    parser.check_files(parser.words)
    arguments = parser.parse_args(parser.words)
    keep_freed_memory()
    return int(module.run(arguments) or 0)


def _list(known: dict[str, ModuleType], group: str = "") -> int:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"usage: longtail {group or 'COMMAND'} …\n")
    if not group:
        console.print(f"{_DESCRIPTION}\n")
    shown = Table(box=None, show_header=False, padding=(0, 1, 0, 1))
    for name, module in known.items():
        shown.add_row(f"[bold]{name}[/]", module.SUMMARY)
    console.print(shown)
    first = next(iter(known))
    console.print(f"\n`longtail {first} --help` explains a command; --debug anywhere shows tracebacks.")
    return 0


def _unknown(name: str, known: dict[str, ModuleType]) -> int:
    close = difflib.get_close_matches(name, known, n=1)
    starts = [
        command for command in known if command.split()[0] in difflib.get_close_matches(name, [command.split()[0]])
    ]
    hint = close or starts
    say_error(
        f"there is no command {name!r}",
        f"did you mean `longtail {hint[0]}`?" if hint else "`longtail --help` lists the commands",
    )
    return 2
