"""Read text and JSON files from outside, with one error that names the file and the key."""

import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

from longtail.errors import DataError

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
    dict: "an object",
    list: "a list",
}
_SHOWN = 60  # characters of a value that an error repeats


def read_text(path: str | Path, what: str, fix: str) -> str:
    """Text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.
        what: Expected content, for the error.
        fix: The way out.

    Raises:
        DataError: The file cannot be read, or is in another encoding.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"cannot read {what} from {path}: it is not in UTF-8", fix="save it as UTF-8 in your editor"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {what} from {path}: {error}", fix=fix) from error


def read_lines(path: str | Path, what: str = "lines") -> list[str]:
    """Lines of a text file, without the spaces around them and without empty ones.

    Raises:
        DataError: The file is missing or not in UTF-8.
    """
    lines = read_text(path, what, "restore the file, in UTF-8").splitlines()
    return [text for line in lines if (text := line.strip())]


def read_json(path: str | Path, what: str, fix: str) -> Any:
    """Content of a JSON file.

    Args:
        path: The file.
        what: Expected content, for the error.
        fix: The way out.

    Raises:
        DataError: The file cannot be read, is in another encoding than UTF-8, or is no JSON.
    """
    text = read_text(path, what, fix)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot read {what} from {path}: {error}", fix=fix) from error


def check_kind(value: Any, kind: Any, source: object, fix: str, key: str = "") -> Any:
    """The value itself, where it is of a kind.

    Args:
        value: Plain JSON values.
        kind: ``int``, ``float`` (also whole numbers), ``str``, ``bool``, ``Any``, ``list[...]`` (also tuples),
            ``dict[str, ...]``, ``Literal``, a union of these, or a ``TypedDict``, whose unknown keys are free.
        source: File that the value is of, for the error.
        fix: The way out.
        key: Key of the value in the file, for the error.

    Raises:
        DataError: It is of another kind, or lacks a key; the file and the key are named.
    """
    if is_typeddict(kind):
        if not isinstance(value, Mapping):
            raise _misfit(value, "an object", source, fix, key)
        for name, own in get_type_hints(kind, include_extras=True).items():
            while get_origin(own) in (NotRequired, Required):
                own = get_args(own)[0]
            if name in value:
                check_kind(value[name], own, source, fix, f"{key}.{name}" if key else name)
            elif name in kind.__required_keys__:
                raise DataError(f"{source} lacks {f'{key}.{name}' if key else name!r}", fix=fix)
        return value
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is list or origin is dict:
        if not isinstance(value, (list, tuple) if origin is list else origin):
            raise _misfit(value, _words(kind), source, fix, key)
        items = value.items() if isinstance(value, dict) else ((f"[{i}]", item) for i, item in enumerate(value))
        for name, item in items:
            check_kind(item, arguments[-1], source, fix, f"{key}.{name}" if origin is dict and key else f"{key}{name}")
        return value
    if not _fits(value, kind):
        raise _misfit(value, _words(kind), source, fix, key)
    if origin in (Union, types.UnionType):
        for own in arguments:  # the items of a list or an object
            if get_origin(own) in (list, dict) and isinstance(value, get_origin(own)):
                return check_kind(value, own, source, fix, key)
    return value


def _fits(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, own) for own in get_args(kind))
    if origin is Literal:
        return value in get_args(kind)
    if kind is Any:
        return True
    if kind is float:
        return type(value) in (int, float)
    return type(value) is (origin or kind)


def _words(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(own) for own in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is list and arguments[0] is not Any:
        return f"a list of {_words(arguments[0]).split(' ', 1)[-1]}s"
    return _WORDS.get(origin or kind, str(kind))


def _misfit(value: Any, expected: str, source: object, fix: str, key: str) -> DataError:
    text = repr(value)
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return DataError(f"{source}: {key or 'the content'} is {text}, not {expected}", fix=fix)
