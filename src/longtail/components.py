"""Components by name: losses, ensembles, networks, methods, samplers, data sets. One builder for all of them.

A component is a class or a builder function with the name of its file: ``losses/focal.py`` holds the
loss ``focal``. Its keyword arguments are its options. A new one is a new file: no list names it. Your own component
is named by its dotted path, ``my_package.losses.MyLoss``.
"""

import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from longtail.errors import CheckpointError, ConfigError
from longtail.settings import nearest, read

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
    """

    kind: str
    package: str
    base: str
    given: tuple[str, ...] = ()
    functions: bool = False

    @property
    def plural(self) -> str:
        """Plural of the kind's name."""
        return self.kind + ("es" if self.kind.endswith("s") else "s")

    def names(self) -> list[str]:
        """Names of all components of the package."""
        folder = import_module(self.package).__path__
        stems = [info.name for info in pkgutil.iter_modules(folder) if not info.ispkg]
        return [stem for stem in sorted(stems) if self._component_in(import_module(f"{self.package}.{stem}"))]

    def find(self, name: str) -> Callable[..., Any]:
        """The class or function of a name or dotted path.

        Raises:
            ConfigError: There is none.
        """
        if "." in name or ":" in name:
            return self._own(name)
        stem = name.replace("-", "_")
        if stem.isidentifier() and find_spec(f"{self.package}.{stem}"):
            found = self._component_in(import_module(f"{self.package}.{stem}"))
            if found is not None:
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
        target = self.find(name)
        known = inspect.signature(target).parameters
        arguments = read(target, options, subject=f"{self.kind} {name!r}", given=self.given)
        supplied = {key: value for key, value in {**(defaults or {}), **given}.items() if key in known}
        return target(**{**supplied, **arguments})

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
        if not callable(found) or not (self.functions or (inspect.isclass(found) and issubclass(found, base))):
            raise ConfigError(f"{path} is no {self.kind}", fix=f"derive it from {base.__module__}.{base.__name__}")
        return found

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
        needed = [p.name for p in inspect.signature(found).parameters.values() if p.default is p.empty]
        return not inspect.isabstract(found) and set(needed) <= {*self.given, "args", "kwargs"}


def split(spec: Spec) -> tuple[str, dict[str, Any]]:
    """Name and options of a component."""
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    return str(options.pop("name", "")), options


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
