"""The contract of an ensemble: one small thing for both papers."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Ensemble(nn.Module, ABC):
    """Combines the logits of several experts into class probabilities.

    ``(experts, n, classes, *grid) -> (n, classes, *grid)``: pixels have a grid, boxes have none. The result
    sums to 1 over the classes; its argmax is the prediction. Permuting the experts together with all that
    belongs to them changes nothing. Identical experts give back that expert, unless the docstring says why not.
    """

    #: Whether ``forward`` wants the experts' decoded features.
    needs_features = False

    @abstractmethod
    def forward(
        self,
        logits: Float[Tensor, "experts n classes *grid"],
        features: Float[Tensor, "experts n channels *coarse"] | None = None,
    ) -> Float[Tensor, "n classes *grid"]:
        """Class probabilities of the ensemble.

        Args:
            logits: Raw outputs of every expert.
            features: What the experts' classifiers read, on a grid of their own; only for ensembles that need them.
        """


class TrainableEnsemble(Ensemble):
    """An ensemble with parameters, fitted on frozen experts in a phase of its own."""

    @abstractmethod
    def loss(
        self,
        logits: Float[Tensor, "experts n classes *grid"],
        target: Tensor,
        features: Float[Tensor, "experts n channels *coarse"] | None = None,
        *,
        ignore_index: int = 255,
    ) -> Float[Tensor, ""]:
        """What the fitting minimises; ``target`` holds class ids and ``ignore_index``, (n, *grid)."""
