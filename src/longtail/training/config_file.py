"""Configurations as YAML: checked on the way in, replayable on the way out, compared by key. Torch-free."""

import difflib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from longtail.errors import ConfigError

Config = TypeVar("Config")


def from_dict(kind: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
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
                f"unknown setting {_dotted(where, key)}",
                fix=f"did you mean {_dotted(where, close[0])}?" if close else f"choose from {', '.join(sorted(known))}",
            )
    return kind(**{key: _typed(types[key], value, _dotted(where, key)) for key, value in values.items()})


def to_dict(config: Any) -> dict[str, Any]:
    """The plain values of a configuration: ``from_dict`` gives an equal one back."""
    return {f.name: _plain(getattr(config, f.name)) for f in fields(config)}


def as_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a YAML file as keyword arguments: its lists are tuples, which YAML does not have."""
    return {name: _tuples(value) for name, value in options.items()}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: The file is missing, not YAML, or not a mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read settings from {path}: {error}", fix="give a YAML file of settings") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no settings", fix="write `setting: value` lines into it")
    return values


def write_yaml(config: Any, path: str | Path) -> None:
    """Write a configuration so that ``--config PATH`` replays it."""
    Path(path).write_text(yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True))


def differences(before: Mapping[str, Any], after: Mapping[str, Any], where: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (value before, value after) of every setting in which two configurations differ."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in [*before, *(k for k in after if k not in before)]:
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found |= differences(old, new, _dotted(where, key))
        elif old != new:
            found[_dotted(where, key)] = (old, new)
    return found


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _typed(kind: Any, value: Any, where: str) -> Any:
    """``value`` as type ``kind``; YAML has no tuples and reads 1e-3 as a string."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        return _first_match([a for a in arguments if a is not NoneType], value, where)
    if origin is Literal:
        return _accept(value in arguments, value, where, f"one of {', '.join(map(str, arguments))}")
    if isinstance(kind, type) and is_dataclass(kind):
        return value if isinstance(value, kind) else from_dict(kind, value, where)
    if origin is dict:
        _accept(isinstance(value, Mapping), value, where, "a mapping")
        return {key: _typed(arguments[1], entry, _dotted(where, key)) for key, entry in value.items()}
    if origin is list:
        _accept(isinstance(value, (list, tuple)), value, where, "a list")
        return [_typed(arguments[0], entry, where) for entry in value]
    if origin is tuple:
        every = arguments[-1] is Ellipsis
        fits = isinstance(value, (list, tuple)) and (every or len(value) == len(arguments))
        _accept(fits, value, where, "a list" if every else f"a list of {len(arguments)}")
        return tuple(_typed(arguments[0 if every else i], entry, where) for i, entry in enumerate(value))
    return _leaf(kind, value, where)


def _leaf(kind: Any, value: Any, where: str) -> Any:
    if kind is float:
        try:
            return float(_accept(not isinstance(value, bool), value, where, "a number"))
        except (TypeError, ValueError):
            return _accept(False, value, where, "a number")
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    return _accept(fits, value, where, {int: "a whole number", bool: "true or false"}.get(kind, "a word"))


def _first_match(kinds: list[Any], value: Any, where: str) -> Any:
    for kind in kinds[:-1]:
        try:
            return _typed(kind, value, where)
        except ConfigError:
            continue
    return _typed(kinds[-1], value, where)


def _accept(fits: bool, value: Any, where: str, wanted: str) -> Any:
    if not fits:
        raise ConfigError(f"{where} is {value!r}", fix=f"give {wanted}")
    return value


def _dotted(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)
