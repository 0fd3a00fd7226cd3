"""Samplers by name, from plain settings."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from longtail.components import Components, Spec, split
from longtail.errors import ConfigError
from longtail.samplers.base import Sampler

SAMPLERS = Components(
    "sampler",
    "longtail.samplers",
    "longtail.samplers.base:Sampler",
    given=("num_images", "image_labels", "pixels", "seed"),
)


def build_sampler(spec: Spec, facts: Mapping[str, Callable[[], Any]]) -> Sampler:
    """A sampler from settings alone.

    Args:
        spec: Name of a sampler (``longtail info``) or the dotted path of your own ``Sampler``; with options as
            ``{"name": …, option: …}``.
        facts: What the data say, computed for the samplers whose arguments name it: ``num_images``; ``image_labels``, the
            classes of every image; ``pixels``, those of every class in every image.

    Raises:
        ConfigError: No such sampler, or it has no such option or value, or needs what these data do not have.
    """
    name, _ = split(spec)
    arguments = inspect.signature(SAMPLERS.find(name)).parameters.values()
    needed = [p.name for p in arguments if p.name in SAMPLERS.given and p.default is p.empty]
    if lacking := [fact for fact in needed if fact not in facts]:
        raise ConfigError(f"sampler {name!r} needs {', '.join(lacking)}", fix="choose another for data of this task")
    return SAMPLERS.build(spec, **{fact: facts[fact]() for fact in needed})
