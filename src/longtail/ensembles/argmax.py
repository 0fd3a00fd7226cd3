"""Take the most confident expert."""

from collections.abc import Callable

from torch import Tensor

from longtail.ensembles.base import Ensemble, expert_probabilities
from longtail.shapes import ExpertFeatures, ExpertLogits, ExpertScores, Probabilities


def select_expert(values: ExpertScores, index: Tensor) -> Probabilities:
    """Outputs of one expert at each position; ``index`` (n, *grid) holds expert numbers 0 … K-1."""
    wanted = index.unsqueeze(1).unsqueeze(0).expand(1, *values.shape[1:])
    return values.gather(0, wanted).squeeze(0)


class MostConfident(Ensemble):
    """At each position the probabilities of the expert with the largest maximum probability.

    Of equally sure experts the first is taken.

    Args:
        activation: How the loss reads logits; None for softmax.

    Source: MEDOE Table 6 (2), "argmax".
    """

    def __init__(self, activation: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, logits: ExpertLogits, features: ExpertFeatures = None) -> Probabilities:
        probabilities = expert_probabilities(logits, self.activation)
        return select_expert(probabilities, probabilities.amax(dim=2).argmax(dim=0))
