"""Finding classes by walking the package, so that a contract test meets every new one."""

import inspect
import pkgutil
from importlib import import_module

import longtail


def concrete_subclasses(base: type, package: str) -> list[type]:
    """Classes of a package that can be made and are a ``base``."""
    root = import_module(package)
    modules = [import_module(m.name) for m in pkgutil.walk_packages(root.__path__, f"{package}.")]
    found = {
        item
        for module in modules
        for item in vars(module).values()
        if inspect.isclass(item) and issubclass(item, base) and not inspect.isabstract(item)
    }
    return sorted((c for c in found if c.__module__.startswith(longtail.__name__)), key=lambda c: c.__qualname__)
