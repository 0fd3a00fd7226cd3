"""Recognise whose checkpoint a file is, and give its tensors the names of a model here."""

from collections.abc import Mapping
from dataclasses import dataclass
from re import fullmatch
from typing import Any

import torch
from torch import Tensor, nn

from longtail.checkpoints.detectron2 import DETECTRON2
from longtail.checkpoints.family import Family
from longtail.checkpoints.mmdetection import MMDETECTION
from longtail.checkpoints.mmsegmentation import MMSEGMENTATION
from longtail.checkpoints.smp import SMP
from longtail.checkpoints.torchvision import TORCHVISION, TORCHVISION_DETECTION
from longtail.checkpoints.transformers import TRANSFORMERS
from longtail.errors import CheckpointError
from longtail.phases import PhasedMethod

FAMILIES: tuple[Family, ...] = (
    SMP,
    TRANSFORMERS,
    TORCHVISION,
    TORCHVISION_DETECTION,
    MMSEGMENTATION,
    MMDETECTION,
    DETECTRON2,
)
#: Part of a checkpoint that must find its place.
_ENOUGH = 0.9
#: What training programs put before all names.
_PREFIXES = ("module.", "model.", "net.", "network.", "_orig_mod.", "_forward_module.")


@dataclass(frozen=True)
class Translation:
    """Tensors of a checkpoint by the names of a plain model.

    Args:
        family: The program that wrote it.
        weights: Name here -> tensor.
        unused: Names of its tensors without a place here.
        misfits: Its tensors of another shape than here, such as classifiers of other classes, in words.
    """

    family: str
    weights: dict[str, Tensor]
    unused: tuple[str, ...]
    misfits: tuple[str, ...]

    def words(self) -> str:
        """What was recognised, and what was not used, by name."""
        left = [*self.misfits, *self.unused]
        told = (
            f"; not used: {', '.join(left[:8])}{f' and {len(left) - 8} more' if len(left) > 8 else ''}" if left else ""
        )
        return f"a checkpoint of {self.family}, {len(self.weights)} tensors translated{told}"


def translate(
    state: Mapping[str, Tensor], method: nn.Module, source: object, *, allow_partial: bool = False
) -> Translation | None:
    """A checkpoint of another program by the names of the plain model in a method; None if it has this library's names.

    Args:
        state: Tensors by name.
        method: What is to be trained.
        source: Where they come from, for the error.
        allow_partial: Accept a checkpoint of which less than 90 % is used.

    Raises:
        CheckpointError: The names are of no program that is known, or less than 90 % of the tensors is used.
    """
    known = _known_names(method)
    own = sum(name in known for name in state)
    state = _without_prefix(state)
    candidates = [_translated(state, family, known, method) for family in FAMILIES if family.recognises(state)]
    best = max(candidates, key=lambda translation: len(translation.weights))
    if own >= len(best.weights) and own:
        return None
    if not best.weights:
        raise CheckpointError(
            f"the tensors of {source} ({', '.join(list(state)[:3])} …) have the names of no program that is known here",
            fix=f"give a checkpoint of {', '.join(family.name for family in FAMILIES)}, or a run of this library",
        )
    counted = _counted(state, best.family)
    used = len(counted) - len(best.unused) - len(best.misfits)
    if used < _ENOUGH * len(counted) and not allow_partial:
        left = [*best.misfits, *best.unused]
        raise CheckpointError(
            f"{source} seems to be a checkpoint of {best.family}, but only {used} of {len(counted)} tensors fit the model; "
            f"not used: {', '.join(left[:6])} …",
            fix="choose the network and encoder that it was trained with, or accept it with --allow_partial",
        )
    return best


def _known_names(method: nn.Module) -> dict[str, Tensor]:
    """Every name that a tensor of the method may have in a plain model, and the tensor."""
    known: dict[str, Tensor] = {}
    for name, value in method.state_dict().items():
        for other in (name, *(method.sources(name) if isinstance(method, PhasedMethod) else ())):
            known.setdefault(other, value)
    return known


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    while True:
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), "")
        if not prefix:
            return dict(state)
        state = {name.removeprefix(prefix): value for name, value in state.items()}


def _counted(state: Mapping[str, Tensor], family: str) -> list[str]:
    ignored = next(f.ignored for f in FAMILIES if f.name == family)
    return [name for name in state if not fullmatch(ignored, name)]


def _translated(state: dict[str, Tensor], family: Family, known: Mapping[str, Tensor], method: Any) -> Translation:
    weights: dict[str, Tensor] = {}
    unused: list[str] = []
    misfits: list[str] = []
    for name, value in family.join(state).items():
        if fullmatch(family.ignored, name):
            continue
        targets = family.targets(name, known)
        if not targets:
            unused.append(name)
        for target in targets:
            adapted = family.adapt(value, name, target, method)
            if adapted.shape == known[target].shape:
                weights[target] = adapted
            elif not any(word.startswith(f"{name} ") for word in misfits):
                misfits.append(f"{name} {list(adapted.shape)} for {list(known[target].shape)}")
    for name in [name for name in weights if name.endswith(".running_var")]:  # frozen norms do not count batches
        counter = f"{name.removesuffix('running_var')}num_batches_tracked"
        if counter in known:
            weights.setdefault(counter, torch.zeros((), dtype=torch.int64))
    return Translation(family.name, weights, tuple(unused), tuple(misfits))
