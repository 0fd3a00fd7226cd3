"""Training in phases, one after another, or of the classifier alone: shared by the methods of both tasks."""

from abc import ABC

from torch import Tensor, nn

from longtail.errors import ConfigError

#: The phase of a run that trains the classifier of a finished model alone.
CLASSIFIER_PHASE = "classifier"


class PhasedMethod(nn.Module, ABC):
    """A module that is trained in one or several phases, in order; one of them is current."""

    #: Names of the training phases, in order.
    phases: tuple[str, ...] = ("train",)

    def __init__(self) -> None:
        super().__init__()
        self.phase = self.phases[0]
        #: Modules that stay as they are in every phase, and the names of parameters that do.
        self.frozen: tuple[str, ...] = ()
        self.frozen_parameters: set[str] = set()

    def start_phase(self, phase: str) -> None:
        """Make ``phase`` the current one: exactly its parameters require a gradient.

        Raises:
            ConfigError: There is no such phase.
        """
        if phase not in self.phases:
            raise ConfigError(
                f"{type(self).__name__} has no training phase {phase!r}", fix=f"choose one of {self.phases}"
            )
        self.phase = phase

    def train(self, mode: bool = True) -> "PhasedMethod":
        """Set the training mode; frozen modules stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    def freezable(self) -> dict[str, tuple[str, ...]]:
        """What ``freeze`` can name -> the modules that it keeps as they are."""
        return {}

    def freeze(self, part: str) -> None:
        """Keep a part as it is in every phase: no gradient, no weight decay, no update of batch statistics.

        Args:
            part: Such as ``encoder`` or ``encoder+expert_1``.

        Raises:
            ConfigError: The method has no such part.
        """
        known = self.freezable()
        if part not in known:
            names = ", ".join(known) or "nothing"
            raise ConfigError(f"{type(self).__name__} cannot freeze {part!r}", fix=f"it can freeze {names}")
        self.frozen = known[part]
        inside = tuple(f"{name}." for name in self.frozen)
        self.frozen_parameters |= {name for name, _ in self.named_parameters() if name.startswith(inside)}
        for name in self.frozen:
            self.get_submodule(name).requires_grad_(False)
        self.train(self.training)

    def sources(self, name: str) -> tuple[str, ...]:
        """Names under which other methods of the same network keep a tensor of this one."""
        return ()

    def classifiers(self) -> dict[str, str]:
        """Modules that a re-training of the classifier trains -> the modules of a finished model that they begin with."""
        return {}

    def train_classifier_alone(self) -> None:
        """Have one phase from now on, ``classifier``, in which everything but the classifier stands still.

        Raises:
            ConfigError: The method has no classifier that can be trained alone.

        Source: Decoupling (Kang 2020) §4, cRT; PEERS part 2 §4.
        """
        if not self.classifiers():
            raise ConfigError(
                f"{type(self).__name__} has no classifier that is trained alone", fix="set method.name to baseline"
            )
        self.phases = (CLASSIFIER_PHASE,)
        self.requires_grad_(False)
        for name in self.classifiers():
            self.get_submodule(name).requires_grad_(True)
        self.start_phase(CLASSIFIER_PHASE)

    def counts(self) -> dict[str, Tensor]:
        """Single numbers that the last ``losses`` counted, by name, for the training log."""
        return {}
