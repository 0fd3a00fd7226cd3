"""Settings: typed arguments of a class or function, read and checked by jsonargparse.

The signature says which options there are, of what type and with what default; the docstring explains them. Everything
that a user sets, on the command line, in YAML or JSON or as a dictionary in Python, is checked here and nowhere else.
This module does not import torch.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn, TypeVar, get_origin

import yaml
from jsonargparse import ArgumentParser

from longtail.errors import ConfigError
from longtail.refusals import dotted, nearest, parts_of, refusal, what_fits

Kind = TypeVar("Kind")
Word = TypeVar("Word")


class Chosen(NamedTuple):
    """A component that settings name.

    Args:
        target: Its class or builder function.
        subject: What it is called in messages, such as "network 'pspnet'".
        given: Arguments that the program supplies; all others are options.
        owners: Option -> names of the components of its kind that have it.
    """

    target: Callable[..., Any]
    subject: str
    given: tuple[str, ...] = ()
    owners: Callable[[str], Collection[str]] = lambda option: ()

    def reading(self, others: Collection[str] = ()) -> dict[str, Any]:
        """Arguments of ``read`` for its options; ``others`` are settings that stand among them."""
        return {"subject": self.subject, "given": self.given, "owners": self.owners, "others": others}


class Section:
    """Settings that name a component, with the options of that component next to the name: ``{name: focal, gamma: 1}``.

    A dataclass derives from it. Its fields are settings of their own; all other keys are options of the component, and
    its field ``options`` holds them.
    """

    #: Key that names the component.
    key: ClassVar[str] = "name"
    #: Whether ``--help`` shows the options of the default component: not where it takes seconds to import.
    quick: ClassVar[bool] = True

    @classmethod
    def component(cls, values: Mapping[str, Any]) -> Chosen | None:
        """The component that the values name; None where its builder alone checks its options.

        Args:
            values: Key -> plain value.
        """
        raise NotImplementedError

    @classmethod
    def own_settings(cls) -> list[str]:
        """Names of the settings that are no options of the component."""
        return [f.name for f in fields(cls) if f.name != "options"]  # type: ignore[arg-type]

    @classmethod
    def add_own_arguments(cls, parser: "SettingsParser", key: str, default: Any) -> None:
        """Add the settings that are no options of the component to a command.

        Args:
            parser: Of the command.
            key: Key of the section.
            default: The settings where none are given.
        """
        parser.add_class_arguments(cls, key, skip={"options", *sections_of(cls)}, fail_untyped=False)

    @classmethod
    def of(cls, values: Any, where: str = "", source: str = "", default: Any = None) -> Any:
        """The settings from plain values, or from the component's name alone.

        Args:
            values: Key -> plain value; the name; or the settings themselves.
            where: See ``SettingsParser``.
            source: See ``SettingsParser``.
            default: Settings whose component is meant where none is named.

        Raises:
            ConfigError: A key is neither a setting nor an option of the component, or a value is of another type.
        """
        if isinstance(values, cls):
            return values
        values = {cls.key: values} if isinstance(values, str) else values
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} is {values!r}", fix="give a name, or a mapping of settings")
        own = {name: value for name, value in values.items() if name in cls.own_settings()}
        options = {name: _plain(value) for name, value in values.items() if name not in own}
        made = cls(**read(cls, own, where=where, source=source, given=["options"]), options=options)  # type: ignore[call-arg]  # a dataclass
        full = {name: getattr(made, name) for name in cls.own_settings()}  # defaults included
        if options and (chosen := cls.component(full)):
            read(chosen.target, options, where=where, source=source, **chosen.reading(cls.own_settings()))
        return made

    def to_dict(self) -> dict[str, Any]:
        """The plain values; ``of`` gives equal settings back."""
        own = {name: _plain(getattr(self, name)) for name in self.own_settings()}
        return {**own, **_plain(getattr(self, "options", {}))}


def sections_of(target: Callable[..., Any]) -> dict[str, type[Section]]:
    """Name -> section of the arguments of a class or function that are sections."""
    known = inspect.signature(target).parameters
    kinds = {name: p.annotation for name, p in known.items()}
    return {name: kind for name, kind in kinds.items() if inspect.isclass(kind) and issubclass(kind, Section)}


class SettingsParser(ArgumentParser):
    """jsonargparse's parser, without abbreviations; errors are a ``ConfigError`` that names key and value.

    Args:
        subject: Owner of the settings, such as "loss 'focal'".
        source: File that they come from.
        where: Dotted path of the settings in the whole configuration.
        values: The settings, to show a refused one as it was given.
        owners: Option -> whose it is, for options that the owner does not have.
        others: Settings that stand among these, to suggest.
        options: Other arguments of jsonargparse's parser.
    """

    def __init__(
        self,
        *,
        subject: str = "",
        source: str = "",
        where: str = "",
        values: Mapping[str, Any] | None = None,
        owners: Callable[[str], Collection[str]] | None = None,
        others: Collection[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(allow_abbrev=False, **options)
        self.subject, self.source, self.where = subject, source, where
        self.values, self.owners, self.others = values or {}, owners, others
        #: Key of a section -> the component whose options are among its settings.
        self.chosen: dict[str, Chosen] = {}

    def add_target(self, target: Callable[..., Any], given: Collection[str] = ()) -> None:
        """Add the arguments of a class or function.

        Args:
            target: The class or function.
            given: Names of arguments that are no settings.
        """
        known = inspect.signature(target).parameters
        add = self.add_class_arguments if inspect.isclass(target) else self.add_function_arguments
        skipped: set[str | int] = {*(name for name in given if name in known), *sections_of(target)}
        add(target, None, skip=skipped, fail_untyped=False, as_group=True)

    def options(self) -> dict[str, Any]:
        """Key -> argparse's action of every setting."""
        dests = {action.dest: action for action in self._actions}
        return {dest: action for dest, action in dests.items() if dest.rpartition(".")[2] not in ("help", "config")}

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the refusal as a ``ConfigError``."""
        problem, fix = refusal(self, " ".join(str(message).split()))
        raise ConfigError(f"{self.source}: {problem}" if self.source else problem, fix=fix) from None


def read(
    target: Callable[..., Any],
    values: Mapping[str, Any],
    *,
    subject: str = "",
    source: str = "",
    where: str = "",
    given: Collection[str] = (),
    owners: Callable[[str], Collection[str]] | None = None,
    others: Collection[str] = (),
) -> dict[str, Any]:
    """Settings as the arguments of a class or function.

    Args:
        target: The class or function. If it takes ``**options``, names that it does not list pass unchecked.
        values: Name -> plain value.
        subject: See ``SettingsParser``.
        source: See ``SettingsParser``.
        where: See ``SettingsParser``.
        given: Names of arguments that are no settings.
        owners: See ``SettingsParser``.
        others: See ``SettingsParser``.

    Raises:
        ConfigError: An unknown name, a value of another type, or a missing one.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or subject or 'the configuration'} is {values!r}", fix="give a mapping of settings")
    known: dict[str, Any] = {"subject": subject, "source": source, "where": where, "owners": owners, "others": others}
    parser = SettingsParser(add_help=False, values=values, **known)
    parser.add_target(target, given)
    kinds = {name: kind for name, kind in sections_of(target).items() if name not in given}
    sections = {
        name: kind.of(values[name], dotted(where, name), source, _default(target, name))
        for name, kind in kinds.items()
        if name in values
    }
    values = {name: _plain(value) for name, value in values.items() if name not in kinds}
    _refuse_plain_groups(target, values, where)
    heads = {key.partition(".")[0] for key in parser.options()}
    unlisted: dict[str, Any] = {}
    if takes_any(target):
        unlisted = {name: value for name, value in values.items() if name not in heads}
    for name in values:
        if name not in heads and name not in unlisted:  # jsonargparse passes one that is empty
            parser.error(f"Option '{name}' is not accepted")
    listed = {str(name): value for name, value in values.items() if name not in unlisted}
    found = parser.instantiate(parser.parse_object(listed, defaults=False))
    return {**vars(found), **unlisted, **sections}


def takes_any(target: Callable[..., Any]) -> bool:
    """Whether a class or function takes ``**options``."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values())


def _default(target: Callable[..., Any], name: str) -> Any:
    """Default of a dataclass's field; None where it has none."""
    made = [f.default_factory for f in fields(target) if f.name == name] if is_dataclass(target) else []
    return made[0]() if made and callable(made[0]) else None


def _refuse_plain_groups(target: Callable[..., Any], values: Mapping[str, Any], where: str) -> None:
    """Refuse null, and a group of settings that is no mapping, which jsonargparse lets pass."""
    for name, parameter in inspect.signature(target).parameters.items():
        annotation, value = parameter.annotation, values.get(name)
        plain = annotation in (bool, int, float, str) or get_origin(annotation) in (Literal, list, tuple, dict)
        if name in values and value is None and plain:
            raise ConfigError(f"{dotted(where, name)} is null", fix=what_fits(annotation, "null", "null"))
        kinds = [kind for kind in parts_of(annotation) if inspect.isclass(kind) and is_dataclass(kind)]
        if value is None or len(kinds) != 1:
            continue
        if not isinstance(value, Mapping):
            raise ConfigError(f"{dotted(where, name)} is {value!r}", fix="give a mapping of settings")
        if annotation is kinds[0]:
            _refuse_plain_groups(kinds[0], value, dotted(where, name))
        else:  # what jsonargparse says of a group that may be None is hard to read
            from_dict(kinds[0], value, dotted(where, name))


def from_dict(kind: type[Kind], values: Mapping[str, Any], where: str = "", source: str = "") -> Kind:
    """Build a configuration dataclass, nested ones included, from plain values.

    Args:
        kind: A dataclass.
        values: Field name -> value; fields that are not named keep their default.
        where: See ``SettingsParser``.
        source: See ``SettingsParser``.

    Raises:
        ConfigError: An unknown key, or a value of another type or out of range.
    """
    if issubclass(kind, Section):
        return kind.of(values, where, source)
    return kind(**read(kind, values, where=where, source=source))


def to_dict(config: Any) -> dict[str, Any]:
    """The plain values of a configuration: ``from_dict`` gives an equal one back."""
    return config.to_dict() if isinstance(config, Section) else plain_fields(config)


def plain_fields(config: Any) -> dict[str, Any]:
    """Field name -> plain value of a dataclass."""
    return {f.name: _plain(getattr(config, f.name)) for f in fields(config)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return value.to_dict() if hasattr(value, "to_dict") else to_dict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def check_fields(config: Any) -> None:
    """Refuse a dataclass with a field that does not fit its annotation.

    Raises:
        ConfigError: Names the field.
    """
    read(type(config), {f.name: getattr(config, f.name) for f in fields(config)})


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: The file is missing, not YAML, or not a mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read settings from {path}: {error}", fix="give a YAML file of settings") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no settings", fix="write `setting: value` lines into it, or leave it out")
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


def one_of(name: str, value: Word, known: Iterable[Any]) -> Word:
    """The value itself.

    Args:
        name: Name of the setting.
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


def as_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a YAML file as keyword arguments: its lists are tuples, which YAML does not have."""
    return {name: _tuples(value) for name, value in options.items()}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value
