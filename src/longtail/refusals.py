"""What settings that do not fit are told: jsonargparse's messages as a problem and a way out."""

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin


def refusal(parser: Any, message: str) -> tuple[str, str]:
    """Problem and fix, from a message of jsonargparse to a ``SettingsParser``."""
    known = parser.options()
    if within := re.search(r"[Kk]ey \"([\w.]+)\": (.*) fix: (.*)", message):  # of settings in a list
        return f"{dotted(parser.where, within[1])}: {within[2]}", within[3]
    if plain := re.search(r"[Kk]ey \"([\w.]+)\": Unable to load config '([^']*)'", message):
        return f"{plain[1]} is {plain[2]!r}", f"give a mapping of settings, such as {{name: {plain[2]}}}"
    unknown = re.search(r"(?:Group '([\w.]+)' does not accept o|O)ption '([\w.]+)'", message)
    word = re.search(r"unrecognized arguments: (\S+)", message)
    missing = re.search(r"[Kk]ey \"([\w.]+)\" is required|required: (\w+)", message)
    wrong = re.search(r"[Kk]ey \"([\w.]+)\": .*?(?:Got|Given) value: (.*)", message)
    if missing:
        key = missing[1] or missing[2]
        return f"{parser.subject or parser.prog} lacks {dotted(parser.where, key)}", f"give {key}"
    if unknown or (word and word[1].startswith("--")):
        key = dotted(unknown[1] or "", unknown[2]) if unknown else word[1][2:].split("=")[0]  # type: ignore[index]
        return _unknown(parser, key, known, "--" if word else "")
    if word:
        return f"there is no argument {word[1]!r}", f"`{parser.prog} --help` lists them; quote values with spaces"
    if wrong:
        key, shown = wrong[1], wrong[2]
        if below := re.match(r"\"?NestedArg\(key='([\w.]+)'", shown):  # --model.encoder.name: encoder is a word
            return _unknown(parser, f"{key}.{below[1]}", known, "--")
        given = _at(parser.values, key)
        value = repr(given) if given is not None else repr(shown) if shown != "None" else shown
        subject = f"{parser.subject}: " if parser.subject else ""
        kind = getattr(known.get(key), "_typehint", None) or getattr(known.get(key), "type", None)
        return f"{subject}{dotted(parser.where, key)} is {value}", what_fits(kind, shown, value)
    if switch := re.search(r"argument (--\w+): ignored explicit argument (.*)", message):
        return (
            f"{switch[1]} takes no value, but {switch[2]} is given",
            f"give {switch[1]} alone; `{parser.prog} --help` says what it does",
        )
    return message, f"`{parser.prog} --help` lists the options"


def _unknown(parser: Any, key: str, known: Mapping[str, Any], dashes: str) -> tuple[str, str]:
    group, _, name = key.rpartition(".")
    close: list[str] = []
    while group and not any(k.startswith(f"{group}.") for k in known):  # --model.encoder.name: is it model.encoder?
        close = close or difflib.get_close_matches(key, known, n=1, cutoff=0.8)
        group, _, name = group.rpartition(".")
    here = [k for k in known if k.rpartition(".")[0] == group] if group else list(known)
    names = {k.rpartition(".")[2]: k for k in reversed(here)}
    close = close or [names[found] for found in difflib.get_close_matches(name, names, n=1)]
    close = close or difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    # an option that is known by another name says so in its help: learning_rate is lr
    close = close or [k for k in here if "_" in name and name.replace("_", " ") in str(known[k].help)][:1]
    hint = f"did you mean {dashes}{dotted(parser.where, close[0])}? " if close else ""
    if parser.subject:
        close = close or difflib.get_close_matches(name, parser.others, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.85)
        if not near and parser.owners and (owners := parser.owners(name)):
            hint = f"{name} is an option of {', '.join(owners)}; "
        return f"{parser.subject} has no option {key!r}", f"{hint}it takes {', '.join(here) or 'none'}"
    if name not in names and group in parser.chosen and (owners := parser.chosen[group].owners(name)):
        return f"{parser.chosen[group].subject} has no option {name!r}", f"{name} is an option of {', '.join(owners)}"
    lists = f"`{parser.prog} --help` lists the options" if dashes else f"choose from {', '.join(here)}"
    return f"unknown setting {dashes}{dotted(parser.where, key)}", hint.strip() or lists


def _at(values: Any, key: str) -> Any:
    """Value at a dotted key; None where there is none."""
    for name in key.split("."):
        values = values.get(name) if isinstance(values, Mapping) else getattr(values, name, None)
    return values


def what_fits(kind: Any, shown: str, value: str) -> str:
    """Allowed values of a setting, in words, for errors."""
    words = [word for part in parts_of(kind) if get_origin(part) is Literal for word in get_args(part)]
    if words and len(words) == sum(len(get_args(part)) for part in parts_of(kind)):
        return f"{nearest(shown, words)}choose one of {', '.join(map(str, words))}"
    if shown.count("{") != shown.count("}") or shown.count("[") != shown.count("]"):
        return f"quote it, so that the shell keeps it together: '{shown} …'"
    if re.search(r"\{.*?\w:\S", f"{shown} {value}"):
        return "write a space after a colon: {name: value}"
    return f"give {' or '.join(dict.fromkeys(_in_words(part) for part in parts_of(kind)))}"


def parts_of(kind: Any) -> list[Any]:
    """Alternatives of an annotation, without None."""
    union = get_origin(kind) in (Union, UnionType)
    return [part for part in (get_args(kind) if union else (kind,)) if part is not type(None)]


def _in_words(kind: Any) -> str:
    plain = {float: "a number", int: "a whole number", bool: "true or false", str: "a word", dict: "a mapping"}
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    arguments = get_args(kind)
    if get_origin(kind) is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)}"
    origin = get_origin(kind) or kind
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "a mapping"
    if inspect.isclass(origin) and issubclass(origin, Iterable) and origin is not str:
        of = {str: " of words (in quotes: numbers, yes and no)", int: " of whole numbers", float: " of numbers"}
        return f"a list{of.get(arguments[0], '') if arguments else ''}"
    return plain.get(origin, f"a {getattr(origin, '__name__', 'value')}")


def nearest(word: Any, known: Iterable[Any]) -> str:
    """``did you mean …? `` where one of the known words is near, else nothing."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def dotted(where: str, key: Any) -> str:
    """Path of a nested setting."""
    return f"{where}.{key}" if where else str(key)
