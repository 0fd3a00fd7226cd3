"""The contract of an ensemble, the same for both papers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from longtail.errors import ConfigError
from longtail.shapes import ExpertFeatures, ExpertLogits, ExpertScores, Probabilities, Scalar


class Ensemble(nn.Module, ABC):
    """Combine the logits of several experts into class probabilities.

    ``(experts, n, classes, *grid) -> (n, classes, *grid)``: pixels have a grid, boxes have none. The result
    sums to 1 over the classes; its argmax is the prediction. Permuting the experts together with all that
    belongs to them changes nothing. Identical experts give back that expert, unless the docstring says why not.
    """

    #: Whether ``forward`` wants the experts' decoded features.
    needs_features = False

    @abstractmethod
    def forward(self, logits: ExpertScores, features: ExpertFeatures = None) -> Probabilities:
        """Class probabilities of the ensemble.

        Args:
            logits: Raw outputs of every expert.
            features: Inputs of the experts' classifiers, on their own grid; only for ensembles that need them.
        """

    def scores(self, logits: ExpertScores, features: ExpertFeatures = None) -> Probabilities:
        """Scores with the argmax of ``forward``, without what moves no label; arguments as of ``forward``."""
        return self(logits, features)


def expert_probabilities(logits: ExpertLogits, activation: Callable[[Tensor], Tensor] | None) -> ExpertScores:
    """Each expert's probabilities, read as its loss does; None for softmax."""
    return logits.softmax(dim=2) if activation is None else torch.stack([activation(own) for own in logits])


class TrainableEnsemble(Ensemble):
    """An ensemble with parameters, fitted on frozen experts in a separate phase."""

    @abstractmethod
    def loss(
        self, logits: ExpertScores, target: Tensor, features: ExpertFeatures = None, *, ignore_index: int = 255
    ) -> Scalar:
        """Loss of the fitting: a mean over the labelled positions, 0 without any.

        Args:
            logits: Raw outputs of every expert, detached.
            target: Class ids and ``ignore_index``, (n, *grid).
            features: See ``forward``.
            ignore_index: Target value of positions without a label.
        """


def named(ensembles: Mapping[str, Ensemble] | None, taken: Collection[str] = ()) -> nn.ModuleDict:
    """Ensembles by the names under which their readings are found.

    Args:
        ensembles: Name -> ensemble.
        taken: Names of other readings.

    Raises:
        ConfigError: A name is taken, or none that a module can have.
    """
    found = nn.ModuleDict()
    for name, ensemble in (ensembles or {}).items():
        if name in taken or not name or "." in name or hasattr(found, name):
            raise ConfigError(
                f"an ensemble is named {name!r}",
                fix=f"give it another name, without a point; taken are {', '.join(taken)}",
            )
        found[name] = ensemble
    return found
