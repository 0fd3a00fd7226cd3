"""What is known of the checkpoints of one program."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

#: Tensor of a checkpoint, its name, the name here, and the model -> tensor as the model has it.
Adapt = Callable[[Tensor, str, str, Any], Tensor]


def as_it_is(value: Tensor, source: str, target: str, model: Any) -> Tensor:
    """The tensor itself."""
    return value


@dataclass(frozen=True)
class Family:
    """Names of the tensors of one program, and what else differs.

    Args:
        name: Name of the program.
        marks: Beginnings of names, all of which its checkpoints have.
        rules: Regular expression of a name -> names here, tried in turn. ``{k}`` stands for every stage of a cascade.
        adapt: Brings a tensor into this library's order.
        ignored: Regular expression of tensors that are no weights.
        join: Tensors that are one here -> name of the joint tensor.
    """

    name: str
    marks: tuple[str, ...]
    rules: Mapping[str, str | tuple[str, ...]]
    adapt: Adapt = as_it_is
    ignored: str = r".*num_batches_tracked"
    join: Callable[[dict[str, Tensor]], dict[str, Tensor]] = field(default=dict)

    def recognises(self, names: Collection[str]) -> bool:
        """Whether a checkpoint with tensors of these names may be of this program."""
        return all(any(name.startswith(mark) for name in names) for mark in self.marks)

    def targets(self, name: str, known: Collection[str]) -> list[str]:
        """Names here of a tensor; none where the model has none of them."""
        for pattern, templates in self.rules.items():
            match = re.fullmatch(pattern, name)
            if match is None:
                continue
            for template in (templates,) if isinstance(templates, str) else templates:
                found = [target for target in _expanded(match, template) if target in known]
                if found:
                    return found
        return []


def _expanded(match: re.Match[str], template: str) -> Iterator[str]:
    stages = range(_MOST_STAGES) if "{k}" in template else [0]
    return (match.expand(template.replace("{k}", str(stage))) for stage in stages)


_MOST_STAGES = 8
