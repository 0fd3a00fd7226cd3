"""Options, defaults and source of components, read from their signatures and docstrings."""

import inspect
import textwrap

from longtail.components import Components
from longtail.datasets.open import DATASETS
from longtail.encoders.build import ENCODERS
from longtail.ensembles.build import ENSEMBLES
from longtail.errors import ConfigError
from longtail.losses.build import LOSSES
from longtail.models.detection_methods import DETECTION_METHODS
from longtail.models.segmentation_methods import SEGMENTATION_METHODS
from longtail.samplers.build import SAMPLERS
from longtail.segmentation.models import NETWORKS
from longtail.settings import SettingsParser, nearest

#: All kinds of components, of both tasks.
KINDS: tuple[Components, ...] = (
    SEGMENTATION_METHODS,
    DETECTION_METHODS,
    LOSSES,
    ENSEMBLES,
    NETWORKS,
    ENCODERS,
    SAMPLERS,
    DATASETS,
)


def describe(name: str) -> str:
    """Description, options and source of a component, of every kind that has one of that name.

    Raises:
        ConfigError: There is none.
    """
    found = [kind for kind in KINDS if kind.has(name)]
    if not found and ("." in name or ":" in name):
        fitting = [kind for kind in KINDS if _finds(kind, name)]
        found = [kind for kind in fitting if kind.derives(name)]
        if (
            fitting and not found
        ):  # a function, or a class with a base of its own: what accepts it does not tell what it is
            kinds = " or ".join(kind.kind for kind in fitting)
            return f"{name}: {kinds}\n\n{_explained(fitting[0], name)}"
    if not found:
        known = [known for kind in KINDS for known in kind.names()]
        raise ConfigError(f"there is no component {name!r}", fix=f"{nearest(name, known)}`longtail info` lists them")
    return "\n".join(f"{kind.kind} {name}\n\n{_explained(kind, name)}" for kind in found)


def _explained(kind: Components, name: str) -> str:
    target = kind.find(name)
    text = inspect.getdoc(target) or ""
    summary, _, rest = text.partition("\nArgs:")
    source = rest[rest.index("\nSource:") + 1 :] if "\nSource:" in rest else ""
    options = "\n".join(_options(kind, name)) or "  no options"
    return "\n\n".join(part for part in (summary.strip(), options, source.strip()) if part) + "\n"


def _options(kind: Components, name: str) -> list[str]:
    """A line for each option: its name, default and help."""
    parser = SettingsParser(add_help=False, usage=" ")
    parser.add_target(kind.find(name), kind.given)
    lines = []
    for option, action in parser.options().items():
        default = "required" if action.required else f"[{action.default}]"
        words = f"{option} {default}: {action.help or ''}"
        lines.append(textwrap.fill(words, 100, initial_indent="  ", subsequent_indent="      "))
    return lines


def _finds(kind: Components, name: str) -> bool:
    try:
        kind.find(name)
    except ConfigError:
        return False
    return True
