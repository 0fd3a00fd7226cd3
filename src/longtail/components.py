"""Components by name: losses, ensembles, networks, methods, samplers, data sets. One builder for all of them.

A component is a class or a builder function with the name of its file: ``losses/focal.py`` holds the
loss ``focal``. Its keyword arguments are its options. A new one is a new file: no list names it. Your own component
is named by its dotted path, ``my_package.losses.MyLoss``.
"""

import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from longtail.errors import CheckpointError, ConfigError
from longtail.settings import Chosen, Section, SettingsParser, check_fields, nearest, plain_fields, read

#: Whose settings are read, where code outside this library must not run.
_UNTRUSTED: ContextVar[str] = ContextVar("untrusted", default="")

#: A component by name, or as ``{"name": …, option: …}``.
Spec = str | Mapping[str, Any]


@dataclass(frozen=True)
class Components:
    """All components of one kind.

    Args:
        kind: What they are called in messages.
        package: Package whose files hold them.
        base: ``module:class`` that they derive from.
        given: Arguments that the program supplies, where a component's signature names them; all others are options.
        functions: Whether they may be builder functions, called like their file or ``build_`` and that.
        duck: Whether a dotted path may name anything that can be called.
    """

    kind: str
    package: str
    base: str
    given: tuple[str, ...] = ()
    functions: bool = False
    duck: bool = False

    @property
    def plural(self) -> str:
        """Plural of the kind's name."""
        return self.kind + ("es" if self.kind.endswith("s") else "s")

    def names(self) -> list[str]:
        """Names of all components of the package."""
        folder = import_module(self.package).__path__
        stems = [info.name for info in pkgutil.iter_modules(folder) if not info.ispkg and _may_hold(info)]
        return [stem for stem in sorted(stems) if self.has(stem)]

    def has(self, name: str) -> bool:
        """Whether the package holds a component of that name."""
        stem = name.replace("-", "_")
        if not stem.isidentifier() or find_spec(f"{self.package}.{stem}") is None:
            return False
        return self._component_in(import_module(f"{self.package}.{stem}")) is not None

    def find(self, name: str) -> Callable[..., Any]:
        """The class or function of a name or dotted path.

        Raises:
            ConfigError: There is none.
        """
        if "." in name or ":" in name:
            return self._own(name)
        if self.has(name):
            found = self._component_in(import_module(f"{self.package}.{name.replace('-', '_')}"))
            assert found is not None
            return found
        known = self.names()
        raise ConfigError(
            f"there is no {self.kind} {name!r}",
            fix=f"{nearest(name, known)}choose one of {', '.join(known)}, or give a dotted path",
        )

    def build(self, spec: Spec, *, defaults: Mapping[str, Any] | None = None, **given: Any) -> Any:
        """Build a component.

        Args:
            spec: Its name, or ``{"name": …, option: …}`` with plain values.
            defaults: Values of options that are not given, for components that have such an option.
            given: Values from the program; each is passed where the signature names it.

        Raises:
            ConfigError: No such component, or it has no such option or value.
        """
        name, options = split(spec)
        chosen = self.choose(name)
        target, known = chosen.target, inspect.signature(chosen.target).parameters
        arguments = read(target, options, **chosen.reading())
        supplied = {key: value for key, value in {**(defaults or {}), **given}.items() if key in known}
        return target(**{**supplied, **arguments})

    def choose(self, name: str) -> Chosen:
        """The component of a name or dotted path, to check its options.

        Raises:
            ConfigError: There is none.
        """
        return Chosen(self.find(name), f"{self.kind} {name!r}", self.given, self._owners)

    def _owners(self, option: str) -> list[str]:
        """Names of the components that have an option."""
        return [name for name in self.names() if option in inspect.signature(self.find(name)).parameters]

    def _own(self, path: str) -> Callable[..., Any]:
        source = _UNTRUSTED.get()
        if source and not path.replace(":", ".").startswith("longtail."):
            raise CheckpointError(
                f"{source} asks to run {path}, code outside this library",
                fix="pass trust_code=True (--trust_code) if you trust it, or build the model yourself and pass network=",
            )
        module, _, name = path.partition(":") if ":" in path else path.rpartition(".")[::1]
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"there is no {self.kind} at {path!r}: {error}",
                fix="give a dotted path that Python can import from here",
            ) from error
        base = self._base()
        if not callable(found) or not (
            self.functions or self.duck or (inspect.isclass(found) and issubclass(found, base))
        ):
            raise ConfigError(f"{path} is no {self.kind}", fix=f"derive it from {base.__module__}.{base.__name__}")
        return found

    def derives(self, path: str) -> bool:
        """Whether what a dotted path names is a class of this kind's base.

        Raises:
            ConfigError: There is nothing at this path, or it cannot be this kind.
        """
        found = self.find(path)
        return inspect.isclass(found) and issubclass(found, self._base())

    def _base(self) -> type:
        module, _, name = self.base.partition(":")
        return getattr(import_module(module), name)

    def _component_in(self, module: ModuleType) -> Callable[..., Any] | None:
        """The component that a file holds, if any."""
        base, stem = self._base(), module.__name__.rpartition(".")[2]
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) != module.__name__ or name.startswith("_"):
                continue
            if inspect.isclass(value) and issubclass(value, base) and self._buildable(value):
                return value
            if self.functions and inspect.isfunction(value) and name in (stem, f"build_{stem}"):
                return value
        return None

    def _buildable(self, found: type) -> bool:
        """Whether a class needs only supplied arguments; other classes are parts of components."""
        parameters = inspect.signature(found).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        needed = {p.name for p in named if p.default is p.empty}
        return not inspect.isabstract(found) and found is not self._base() and needed <= set(self.given)


def _may_hold(info: pkgutil.ModuleInfo) -> bool:
    """Whether a file has a class or builder function at all: others are not imported to be looked at."""
    spec = info.module_finder.find_spec(info.name, None)
    source = Path(str(spec.origin)).read_text(encoding="utf-8") if spec is not None else ""
    return re.search(rf"^class |^def (build_)?{info.name}\b", source, re.MULTILINE) is not None


def split(spec: Spec) -> tuple[str, dict[str, Any]]:
    """Name and options of a component."""
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    return str(options.pop("name", "")), options


@dataclass(frozen=True)
class ComponentSettings(Section):
    """A component whose settings are a dataclass: its fields are the options, and it builds the thing itself.

    ``of({"name": "medoe", "alpha": 0.3})`` makes the dataclass of that name; in Python one makes it oneself.

    Raises:
        ConfigError: A value that does not fit the field's annotation.
    """

    #: ``module:NAME`` of the ``Components`` that they are.
    components: ClassVar[str]

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def name(self) -> str:
        """Name of the component, or its dotted path."""
        kind, package = type(self), self._components().package
        inside = kind.__module__.startswith(f"{package}.")
        return kind.__module__.rpartition(".")[2] if inside else f"{kind.__module__}.{kind.__qualname__}"

    @classmethod
    def component(cls, values: Mapping[str, Any]) -> Chosen:
        """See ``Section``."""
        return cls._components().choose(str(values.get("name", "")))

    @classmethod
    def own_settings(cls) -> list[str]:
        """See ``Section``."""
        return ["name"]

    @classmethod
    def add_own_arguments(cls, parser: SettingsParser, key: str, default: Any) -> None:
        """See ``Section``."""
        words = f"{', '.join(cls._components().names())}, or the dotted path of your own"
        group = parser.add_argument_group(f"{key}: {cls._components().kind}")
        group.add_argument(f"--{key}.name", type=str, default=default.name, help=words)

    @classmethod
    def of(cls, values: Any, where: str = "", source: str = "", default: Any = None) -> Any:
        """See ``Section``."""
        if isinstance(values, cls):
            return values
        if not isinstance(values, (str, Mapping)):
            raise ConfigError(f"{where} is {values!r}", fix="give a name, or a mapping of settings")
        name, options = split(values)
        chosen = cls._components().choose(name or getattr(default, "name", ""))
        return chosen.target(**read(chosen.target, options, where=where, source=source, **chosen.reading()))

    def to_dict(self) -> dict[str, Any]:
        """See ``Section``."""
        return {"name": self.name, **plain_fields(self)}

    @classmethod
    def _components(cls) -> Components:
        module, _, name = cls.components.partition(":")
        return getattr(import_module(module), name)


@contextmanager
def own_code_allowed(allowed: bool, source: str) -> Iterator[None]:
    """Whether components may be named by dotted paths outside this library.

    Args:
        allowed: Whether they may.
        source: Where the settings come from, for the message.
    """
    token = _UNTRUSTED.set("" if allowed else source)
    try:
        yield
    finally:
        _UNTRUSTED.reset(token)
