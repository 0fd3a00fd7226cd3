"""Plain average of the experts."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from longtail.ensembles.base import Ensemble


class Mean(Ensemble):
    """Average of the experts' probabilities, or softmax of their average logits.

    Args:
        of: What is averaged.

    Source: the ordinary ensemble; MEC §3.1 averages probabilities, mmdetection's cascades logits (SPEC §2.15).
    """

    def __init__(self, of: Literal["probabilities", "logits"] = "probabilities") -> None:
        super().__init__()
        self.of = of

    def forward(
        self,
        logits: Float[Tensor, "experts n classes *grid"],
        features: Float[Tensor, "experts n channels *coarse"] | None = None,
    ) -> Float[Tensor, "n classes *grid"]:
        if self.of == "logits":
            return logits.mean(dim=0).softmax(dim=1)
        return logits.softmax(dim=2).mean(dim=0)
