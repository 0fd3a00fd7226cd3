"""Training in phases, one after another: shared by the methods of both tasks."""

from abc import ABC

from torch import Tensor, nn

from longtail.errors import ConfigError


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

    def counts(self) -> dict[str, Tensor]:
        """Single numbers that the last ``losses`` counted, by name, for the training log."""
        return {}
