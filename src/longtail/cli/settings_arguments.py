"""All settings of a configuration as options of a command, with those of the components that it names."""

import json
from argparse import SUPPRESS
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import yaml

from longtail.cli.parser import Parser
from longtail.errors import ConfigError
from longtail.settings import Section, SettingsParser, read_yaml, sections_of, takes_any


def add_settings(parser: Parser, config: type) -> None:
    """Add an option for every setting of a configuration.

    Options of a component are those of the one that the command line or its files name, else of the default one.

    Args:
        parser: Of the command.
        config: Dataclass of the settings; its sections are added as groups.
    """
    parser.add_target(config)
    sections = sections_of(config)
    parser.words = [part for word in _joined(parser.words) for part in _spelled_out(word, "--", sections)]
    given = given_settings(parser.words)
    defaults = config()
    for name, section in sections.items():
        _add_section(parser, name, section, given.get(name), getattr(defaults, name))


def given_settings(words: Sequence[str]) -> dict[str, Any]:
    """Settings of the command line and of the files that it names, nested and unchecked; later ones win."""
    found: dict[str, Any] = {}
    for word in _joined(words):
        name, _, value = word.partition("=")
        if name == "--config":
            with suppress(ConfigError):  # the parser says what is wrong with the file
                _merge(found, read_yaml(value))
        elif name.startswith("--"):
            settings: Any = value
            for key in reversed(name[2:].split(".")):
                settings = {key: settings}
            _merge(found, settings)
    return found


def _joined(words: Sequence[str]) -> list[str]:
    """``--key value`` as ``--key=value``."""
    joined: list[str] = []
    for word in words:
        follows = joined and joined[-1].startswith("--") and "=" not in joined[-1] and not word.startswith("--")
        if follows:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _spelled_out(word: str, prefix: str, sections: Mapping[str, type[Section]]) -> list[str]:
    """A whole section, ``--method medoe`` or ``--method '{name: medoe, alpha: 0.3}'``, as a word for each setting."""
    key, equals, value = word.partition("=")
    for name, section in sections.items():
        own = f"{prefix}{name}"
        if key.startswith(f"{own}."):
            return _spelled_out(word, f"{own}.", sections_of(section))
        if key == own and equals:
            settings = yaml.safe_load(value) if value.startswith("{") else {section.key: value}
            words = [f"{own}.{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in settings.items()]
            return [part for w in words for part in _spelled_out(w, f"{own}.", sections_of(section))]
    return [word]


def _leaves(word: str, group: str) -> list[str]:
    """``--group={a: 1}`` as a word for each setting."""
    key, _, value = word.partition("=")
    settings = yaml.safe_load(value) if key == group else None
    if not isinstance(settings, dict):
        return [word]
    return [f"{group}.{name}={v if isinstance(v, str) else json.dumps(v)}" for name, v in settings.items()]


def _merge(settings: dict[str, Any], others: Mapping[str, Any]) -> None:
    for name, value in others.items():
        if isinstance(value, Mapping) and isinstance(settings.get(name), dict):
            _merge(settings[name], value)
        else:
            settings[name] = dict(value) if isinstance(value, Mapping) else value


def _add_section(parser: Parser, key: str, section: type[Section], given: Any, default: Section) -> None:
    """The settings of a section, then the options of its component."""
    given = given if isinstance(given, Mapping) else {}
    section.add_own_arguments(parser, key, default)
    for name, inner in sections_of(section).items():
        _add_section(parser, f"{key}.{name}", inner, given.get(name), getattr(default, name))
    asks_help = any(word in ("-h", "--help") for word in parser.words)
    if asks_help and not section.quick and section.key not in given:
        return
    own = {name: value for name, value in {**default.to_dict(), **given}.items() if name in section.own_settings()}
    chosen = section.component(own)
    known = set(section.own_settings())
    if chosen is not None:
        parser.chosen[key] = chosen
        group = parser.add_argument_group(f"{key}: options of {chosen.subject}")
        options = SettingsParser(add_help=False, usage=" ")
        options.add_target(chosen.target, [*chosen.given, *known])
        actions = options.options()
        for name, action in actions.items():
            known.add(name.partition(".")[0])
            if any(other.startswith(f"{name}.") for other in actions):  # a group: its settings are added one by one
                parser.words = [part for word in parser.words for part in _leaves(word, f"--{key}.{name}")]
                continue
            default_words = f"default: {'null' if action.default is None else action.default}"
            default_words = "required" if action.required else default_words
            kind = getattr(action, "_typehint", None) or action.type or bool
            words = f"{action.help or ''} ({default_words})"
            group.add_argument(f"--{key}.{name}", type=kind, default=SUPPRESS, help=words)
        if not takes_any(chosen.target):
            return
    for name in given:  # the component's builder checks them
        if name not in known:
            parser.add_argument(f"--{key}.{name}", type=Any, default=SUPPRESS)
