"""Begin a method with the weights of another one: which tensor goes where, told by module."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from longtail.errors import CheckpointError
from longtail.losses.base import ClassificationLoss
from longtail.phases import PhasedMethod


@dataclass(frozen=True)
class Adoption:
    """Where the tensors of a method come from.

    Args:
        loaded: Name in the method -> name in the source.
        anew: Names in the method that keep their initial values.
        unused: Names in the source that the method does not have.
        note: What else to know of the source.
    """

    loaded: Mapping[str, str]
    anew: tuple[str, ...]
    unused: tuple[str, ...]
    note: str = ""

    def rows(self) -> list[tuple[str, int, str]]:
        """Module, number of its tensors, and where they come from; then what is left over."""
        loaded = Counter(_without_common_end(own, source) for own, source in self.loaded.items())
        rows = [(own, count, f"from {source}") for (own, source), count in loaded.items()]
        rows += [(name, count, "made anew") for name, count in _by_module(self.anew)]
        return rows + [(name, count, "of the source, not used") for name, count in _by_module(self.unused)]


def match(method: nn.Module, weights: Mapping[str, Tensor]) -> Adoption:
    """Find the tensors of a method in the weights of any method of the same network.

    A tensor is looked for by its own name, then by the names of ``PhasedMethod.sources``: a single decoder becomes every
    expert.

    Args:
        method: What is to be trained.
        weights: Tensors by name, of a method or of a plain ``EncoderDecoder``.
    """
    loaded: dict[str, str] = {}
    for name in method.state_dict():
        names = (name, *(method.sources(name) if isinstance(method, PhasedMethod) else ()))
        found = next((source for source in names if source in weights), None)
        if found is not None:
            loaded[name] = found
    counts = tuple(f"{name}." for name, m in method.named_modules() if isinstance(m, ClassificationLoss))
    anew = tuple(name for name in method.state_dict() if name not in loaded and not name.startswith(counts))
    return Adoption(loaded, anew, tuple(name for name in weights if name not in set(loaded.values())))


def adopt(
    method: nn.Module, weights: Mapping[str, Tensor], source: object, trained: Iterable[str] | None = None
) -> Adoption:
    """Load weights into a method; what they lack must be trained.

    Counts of a loss are no weights: a loss that the source did not have starts without.

    Args:
        method: What is to be trained.
        weights: See ``match``.
        source: Where they come from, for the error.
        trained: Names of the parameters that training will change; those that require a gradient where not given.

    Raises:
        CheckpointError: No tensor has a name of the model's, one has another shape, or one that is not trained is
            missing.
    """
    found, own = match(method, weights), method.state_dict()
    if trained is None:
        trained = (name for name, parameter in method.named_parameters() if parameter.requires_grad)
    if not found.loaded:
        raise CheckpointError(
            f"weights of {source} do not fit: none of {len(weights)} tensors is of this model",
            fix="use the weights of the same network",
        )
    parents = {name.rpartition(".")[0] for name in trained}
    misfits = [name for name, source in found.loaded.items() if own[name].shape != weights[source].shape]
    missing = [name for name in found.anew if name.rpartition(".")[0] not in parents]
    if misfits or missing:
        what = f"{len(missing)} tensors are missing, {missing[0]} first" if missing else ""
        if misfits:
            first = found.loaded[misfits[0]]
            what = f"{first} is {list(weights[first].shape)}, the model needs {list(own[misfits[0]].shape)}"
        raise CheckpointError(
            f"weights of {source} do not fit: {what}", fix="use the same network and classes as in that model"
        )
    method.load_state_dict({name: weights[source] for name, source in found.loaded.items()}, strict=False)
    return found


def _without_common_end(own: str, source: str) -> tuple[str, str]:
    """Two names up to the modules that have the same inside; at least their first words."""
    ours, theirs = own.split("."), source.split(".")
    while len(ours) > 1 and len(theirs) > 1 and ours[-1] == theirs[-1]:
        ours.pop()
        theirs.pop()
    return ".".join(ours), ".".join(theirs)


def _by_module(names: Iterable[str]) -> list[tuple[str, int]]:
    """First words of names, with the number of an expert or stage, and how many names begin so."""
    words = (name.split(".") for name in names)
    return list(Counter(".".join(w[: next((i + 1 for i, x in enumerate(w) if x.isdigit()), 1)]) for w in words).items())
