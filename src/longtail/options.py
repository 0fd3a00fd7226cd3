"""Check plain settings against the annotations of their function or class. Does not import torch."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from numbers import Integral
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from longtail.errors import ConfigError

Kind = TypeVar("Kind")
Word = TypeVar("Word")


def one_of(name: str, value: Word, known: Iterable[Any]) -> Word:
    """The value itself.

    Args:
        name: Name of the option.
        value: Any.
        known: The values that there are: ``get_args`` of a ``Literal``.

    Raises:
        ConfigError: It is none of them.
    """
    known = tuple(known)
    if value not in known:
        raise ConfigError(
            f"{name} is {value!r}", fix=f"{nearest(value, known)}choose one of {', '.join(map(str, known))}"
        )
    return value


def nearest(word: Any, known: Iterable[Any]) -> str:
    """``did you mean …? `` where one of the known words is near, else nothing."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def options_of(target: Callable[..., Any], given: Iterable[str] = ()) -> dict[str, inspect.Parameter]:
    """Named parameters of a function or class, without those that are ``given`` by the caller."""
    parameters = inspect.signature(target).parameters.values()
    return {p.name: p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in given}


def take(what: str, options: Mapping[str, Any], known: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Options in the types of their parameters: YAML reads 1e-3 as a word and has no tuples.

    Args:
        what: Whose options they are, for messages.
        options: Name -> plain value.
        known: See ``options_of``.

    Raises:
        ConfigError: An unknown name, a value that does not fit its annotation, or one that is missing.
    """
    for option in options:
        if option not in known:
            takes = ", ".join(known) or "none"
            raise ConfigError(f"{what} has no option {option!r}", fix=f"{nearest(option, known)}it takes {takes}")
    missing = [p.name for p in known.values() if p.default is p.empty and p.name not in options]
    if missing:
        raise ConfigError(f"{what} lacks {', '.join(missing)}", fix=f"give it: {{{missing[0]}: …}}")
    return {name: typed(known[name].annotation, value, f"{what}: {name}") for name, value in options.items()}


def from_dict(kind: type[Kind], values: Mapping[str, Any], where: str = "") -> Kind:
    """Build a configuration dataclass, nested ones included, from plain values.

    Args:
        kind: A dataclass.
        values: Field name -> value; fields that are not named keep their default.
        where: Dotted path of ``values`` in the whole configuration, for messages.

    Raises:
        ConfigError: An unknown key, or a value of the wrong type or out of range.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or 'the configuration'} is {values!r}", fix="give a mapping of settings")
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    types = get_type_hints(kind)
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            raise ConfigError(
                f"unknown setting {dotted(where, key)}",
                fix=f"did you mean {dotted(where, close[0])}?" if close else f"choose from {', '.join(sorted(known))}",
            )
    return kind(**{key: typed(types[key], value, dotted(where, key)) for key, value in values.items()})


def dotted(where: str, key: Any) -> str:
    """Path of a nested setting."""
    return f"{where}.{key}" if where else str(key)


def check_fields(config: Any) -> None:
    """Refuse a dataclass with a field that does not fit its annotation.

    Raises:
        ConfigError: Names the field.
    """
    for name, kind in get_type_hints(type(config)).items():
        typed(kind, getattr(config, name), name)


def typed(kind: Any, value: Any, where: str) -> Any:
    """``value`` as type ``kind``; other kinds are not checked.

    Raises:
        ConfigError: It does not fit; names ``where``.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _any_of([a for a in arguments if a is not NoneType], NoneType in arguments, value, where)
    if origin is Literal:
        return one_of(where, value, arguments)
    if isinstance(kind, type) and is_dataclass(kind):
        return value if isinstance(value, kind) else from_dict(kind, value, where)
    if origin in (dict, Mapping):
        _accept(isinstance(value, Mapping), value, where, "a mapping")
        return {key: typed(arguments[1], entry, dotted(where, key)) for key, entry in value.items()}
    if origin in (list, Sequence):
        fits = isinstance(value, Iterable) and not isinstance(value, (str, Mapping))
        return [typed(arguments[0], entry, where) for entry in _accept(fits, value, where, "a list")]
    if origin is tuple:
        every = arguments[-1] is Ellipsis
        fits = isinstance(value, (list, tuple)) and (every or len(value) == len(arguments))
        _accept(fits, value, where, "a list" if every else f"a list of {len(arguments)}")
        return tuple(typed(arguments[0 if every else i], entry, where) for i, entry in enumerate(value))
    return _leaf(kind, value, where)


def _any_of(kinds: list[Any], optional: bool, value: Any, where: str) -> Any:
    if value is None and optional:
        return None
    if all(get_origin(kind) is Literal for kind in kinds):
        return one_of(where, value, [word for kind in kinds for word in get_args(kind)])
    for kind in kinds[:-1]:
        try:
            return typed(kind, value, where)
        except ConfigError:
            continue
    return typed(kinds[-1], value, where)


def _leaf(kind: Any, value: Any, where: str) -> Any:
    if kind is float:
        try:
            return float(_accept(not isinstance(value, bool), value, where, "a number"))
        except (TypeError, ValueError):
            return _accept(False, value, where, "a number")
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if kind is Any or kind is inspect.Parameter.empty or not isinstance(kind, type):
        return value
    fits = isinstance(value, Integral if kind is int else kind) and not (kind is int and isinstance(value, bool))
    wanted = {int: "a whole number", bool: "true or false", str: "a word"}
    return _accept(fits, value, where, wanted.get(kind, f"a {kind.__name__}"))


def _accept(fits: bool, value: Any, where: str, wanted: str) -> Any:
    if not fits:
        raise ConfigError(f"{where} is {value!r}", fix=f"give {wanted}")
    return value
