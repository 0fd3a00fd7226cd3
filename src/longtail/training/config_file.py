"""Read, check, write and compare configurations in YAML. Does not import torch."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from longtail.errors import ConfigError
from longtail.options import dotted
from longtail.options import from_dict as from_dict


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
            found |= differences(old, new, dotted(where, key))
        elif old != new:
            found[dotted(where, key)] = (old, new)
    return found


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value
