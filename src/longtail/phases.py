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
