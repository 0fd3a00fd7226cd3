"""The contract of a task with the training loop."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.fabric import Fabric
from rich.console import RenderableType
from torch import nn
from torch.utils.data import Dataset

from longtail.training.console import Console
from longtail.training.loading import IndexOrder
from longtail.training.run_folder import RunFolder


@dataclass(frozen=True)
class Validation:
    """Outcome of one validation.

    Args:
        score: Score by which the best weights are chosen; higher is better.
        values: Metric name -> value, for the logs.
        classes: The same of single classes, for the loggers alone.
        shown: Text for the console.
    """

    score: float
    values: dict[str, float] = field(default_factory=dict)
    shown: RenderableType | None = None
    classes: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class Method(Protocol):
    """The part of a ``SegmentationMethod`` or ``DetectionMethod`` that training uses."""

    phases: tuple[str, ...]

    def start_phase(self, phase: str) -> None: ...

    def losses(self, *batch: Any) -> dict[str, torch.Tensor]: ...


@runtime_checkable
class Task(Protocol):
    """A method with its data.

    Attributes:
        method: The ``nn.Module`` that is trained; meets ``Method``.
        train_data: Augmented samples by index; draws from the global generators.
        order: One pass over the training data.
        collate: List of samples -> batch; None for torch's own.
        data_fingerprint: Changes when the training data do; a run is resumed with the same one alone.
    """

    method: nn.Module
    train_data: Dataset
    order: IndexOrder
    collate: Callable[[list], Any] | None
    data_fingerprint: str

    def inputs(self, batch: Any) -> tuple:
        """Arguments of ``method.losses``."""

    def prepare(self, fabric: Fabric, run: RunFolder, console: Console) -> None:
        """Compute what training needs before its first step, with the weights that it begins with."""

    def validate(self, device: torch.device) -> Validation | None:
        """Score the current weights, on every rank its share; None where there is nothing to validate on."""

    def save(self, run: RunFolder, phases: tuple[str, ...]) -> None:
        """Save weights and their configuration (``best.safetensors``, ``config.json``).

        Args:
            run: Where to.
            phases: Phases that the weights have been through.
        """

    def describe(self) -> list[tuple[str, str]]:
        """Lines (subject, words) on the model and the data of the training."""


def phases_of(method: nn.Module) -> tuple[str, ...]:
    """Training phases of a method, in order."""
    return tuple(method.phases)  # type: ignore[arg-type]
