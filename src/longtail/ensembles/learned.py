"""MEDOE's ensemble: learned weights and biases of every expert and category."""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from longtail.ensembles.base import TrainableEnsemble
from longtail.errors import ConfigError
from longtail.settings import one_of
from longtail.shapes import ExpertFeatures, ExpertScores, Probabilities, Scalar

Inputs = Literal["log_probabilities", "probabilities", "logits"]
Outer = Literal["weight", "none", "convex"]
Objective = Literal["likelihood", "scores", "literal"]
Bias = Literal["expert", "shared"]
_EPS = 1e-12


class LearnedEnsemble(TrainableEnsemble):
    """Weights and biases of every expert and category, fitted on frozen experts.

    With u_i the inputs of expert i::

        p̂_i = softmax_j(w_i^j u_i^j + β_i^j)                  Eq. 7
        p_final ∝ Σ_i w_i ⊙ p̂_i                               Eq. 8

    Eq. 7 feeds probabilities and Eq. 8 leaves p_final unnormalised: a softmax of probabilities is nearly uniform and the
    loss has no lower bound. The defaults feed log-probabilities, keep w positive and normalise p_final (SPEC §2.7-2.8):
    then w = 1, β = 0, the initial state, is the plain average of the experts, and one expert with w = 1, β = 0 is itself.
    The paper's literal form is ``inputs="probabilities", objective="literal"``.

    Args:
        num_experts: K.
        num_classes: C.
        inputs: u; log softmax(z), softmax(z) or z itself.
        outer: The weight outside the inner softmax: w, none (1/K), or w normalised over the experts.
        objective: ``likelihood`` = -log of the normalised p_final; ``scores`` = cross-entropy that takes p_final for
            logits; ``literal`` = -log p_final unchanged, with the 1/K of Eq. 8.
        bias: β of its own for every expert (as in Eq. 7), or shared by the experts (as in the text).
        positive: Whether w = softplus(θ + ln(e - 1)); default: for ``likelihood`` only.

    Source: MEDOE Eq. 7-8.
    """

    def __init__(
        self,
        num_experts: int,
        num_classes: int,
        *,
        inputs: Inputs = "log_probabilities",
        outer: Outer = "weight",
        objective: Objective = "likelihood",
        bias: Bias = "expert",
        positive: bool | None = None,
    ) -> None:
        super().__init__()
        if objective == "likelihood" and positive is False and outer != "none":
            raise ConfigError(
                "a likelihood of unconstrained outer weights diverges: they may become negative",
                fix='leave positive=None, or choose outer="none" or objective="scores"',
            )
        self.inputs: Inputs = one_of("inputs", inputs, get_args(Inputs))
        self.outer: Outer = one_of("outer", outer, get_args(Outer))
        self.objective: Objective = one_of("objective", objective, get_args(Objective))
        self.positive = objective == "likelihood" if positive is None else positive
        self.raw_weight = nn.Parameter(torch.zeros(num_experts, num_classes))
        own = one_of("bias", bias, get_args(Bias)) == "expert"
        self.bias = nn.Parameter(torch.zeros(num_experts if own else 1, num_classes))

    @property
    def weight(self) -> Float[Tensor, "experts classes"]:
        """Decision weights w, 1 at the start."""
        return F.softplus(self.raw_weight + math.log(math.e - 1)) if self.positive else self.raw_weight + 1

    def forward(self, logits: ExpertScores, features: ExpertFeatures = None) -> Probabilities:
        final = self.unnormalised(logits)
        if self.objective == "scores":
            return final.softmax(dim=1)
        final = final.clamp(min=0)
        return final / final.sum(dim=1, keepdim=True).clamp(min=_EPS)

    def scores(self, logits: ExpertScores, features: ExpertFeatures = None) -> Probabilities:
        if self.objective != "scores" and not self.positive:
            return self(logits)
        if self.inputs != "log_probabilities":
            return self.unnormalised(logits)
        # one expert after the other, powers by themselves and sums as products of matrices: runtimes are slow at a
        # softmax and at sums over the second axis
        total: Tensor | None = None
        maps = logits.reshape(*logits.shape[:3], -1)
        ones = maps.new_ones(1, maps.shape[2])
        bias = self.bias.expand_as(self.raw_weight)
        columns = (part.unsqueeze(2) for part in (self.weight, self.outer_weight, bias))
        for own, w, outer, b in zip(maps, *columns, strict=True):
            u = own - own.amax(dim=1, keepdim=True)
            u = w * (u - (ones @ u.exp()).log()) + b
            powers = (u - u.amax(dim=1, keepdim=True)).exp()
            part = outer * powers * (ones @ powers).reciprocal()
            total = part if total is None else total + part
        assert total is not None
        return total.view(logits.shape[1:])

    def unnormalised(self, logits: ExpertScores) -> Probabilities:
        """p_final before normalisation: mean over the experts of outer weight times p̂_i (Eq. 8)."""
        return self.weighted(logits).mean(dim=0)

    def weighted(self, logits: ExpertScores) -> ExpertScores:
        """Every expert's contribution, outer weight times p̂_i (Eq. 7)."""
        logits = logits.to(torch.promote_types(logits.dtype, self.bias.dtype))
        trailing = [1] * (logits.ndim - 3)
        bias = self.bias.view(len(self.bias), 1, -1, *trailing)
        calibrated = (self.weight.view(len(logits), 1, -1, *trailing) * self._inputs(logits) + bias).softmax(dim=2)
        return (
            calibrated if self.outer == "none" else self.outer_weight.view(len(logits), 1, -1, *trailing) * calibrated
        )

    @property
    def outer_weight(self) -> Float[Tensor, "experts classes"]:
        """The weight outside the softmax in Eq. 8."""
        weight = self.weight
        if self.outer == "none":
            return torch.ones_like(weight)
        return weight / weight.sum(dim=0, keepdim=True) * len(weight) if self.outer == "convex" else weight

    def loss(
        self, logits: ExpertScores, target: Tensor, features: ExpertFeatures = None, *, ignore_index: int = 255
    ) -> Scalar:
        """L_select of Eq. 8, mean over the labelled positions; y_se is the class label (SPEC §2.7, 4).

        ``pixels.ensemble_loss`` has the default reading of whole images in closed form.
        """
        final = self.unnormalised(logits)
        if self.objective == "scores":
            final = final.softmax(dim=1)
        elif self.objective == "likelihood":
            final = final / final.sum(dim=1, keepdim=True)
        logs = final.clamp(min=_EPS).log().contiguous()  # nll_loss refuses the gradient of other layouts
        total = F.nll_loss(logs, target.long(), ignore_index=ignore_index, reduction="sum")
        return total / (target != ignore_index).sum().clamp(min=1)

    def _inputs(self, logits: Tensor) -> Tensor:
        if self.inputs == "logits":
            return logits
        return logits.log_softmax(dim=2) if self.inputs == "log_probabilities" else logits.softmax(dim=2)
