"""MEDOE's decision-maker: learned weights and biases of every expert and category."""

import math
from collections.abc import Iterable, Iterator
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from longtail.ensembles.base import TrainableEnsemble
from longtail.ensembles.blockwise import blocks_of, cut, sum_over_blocks
from longtail.ensembles.labels import most_probable
from longtail.ensembles.learned_sums import Inputs, Piece, calibrate, summed_loss
from longtail.errors import ConfigError
from longtail.settings import one_of

Outer = Literal["weight", "none", "convex"]
Objective = Literal["likelihood", "scores", "literal"]
Bias = Literal["expert", "shared"]
_EPS = 1e-12


def summed_nll(probabilities: Float[Tensor, "n classes *grid"], target: Tensor, ignore_index: int) -> Float[Tensor, ""]:
    """Sum of ``-log p[target]`` over the labelled positions; 0 where there are none."""
    logs = probabilities.clamp(min=_EPS).log().contiguous()  # nll_loss refuses the gradient of other layouts
    return F.nll_loss(logs, target.long(), ignore_index=ignore_index, reduction="sum")


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
            logits; ``literal`` = -log p_final as it is, with the 1/K of Eq. 8.
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

    def forward(
        self,
        logits: Float[Tensor, "experts n classes *grid"],
        features: Float[Tensor, "experts n channels *coarse"] | None = None,
    ) -> Float[Tensor, "n classes *grid"]:
        final = self.unnormalised(logits)
        if self.objective == "scores":
            return final.softmax(dim=1)
        final = final.clamp(min=0)
        return final / final.sum(dim=1, keepdim=True).clamp(min=_EPS)

    def unnormalised(self, logits: Float[Tensor, "experts n classes *grid"]) -> Float[Tensor, "n classes *grid"]:
        """p_final before normalisation: mean over the experts of outer weight times p̂_i (Eq. 8)."""
        return self.weighted(logits).mean(dim=0)

    def weighted(self, logits: Float[Tensor, "experts n classes *grid"]) -> Float[Tensor, "experts n classes *grid"]:
        """Every expert's contribution, outer weight times p̂_i (Eq. 7)."""
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
        self,
        logits: Float[Tensor, "experts n classes *grid"],
        target: Tensor,
        features: Float[Tensor, "experts n channels *coarse"] | None = None,
        *,
        ignore_index: int = 255,
    ) -> Float[Tensor, ""]:
        """L_select of Eq. 8, mean over the labelled positions; y_se is the class label (SPEC §2.7, 4).

        Raises:
            ConfigError: The logits require a gradient, which this loss has for the ensemble's parameters alone.
        """
        if logits.requires_grad and torch.is_grad_enabled():
            raise ConfigError(
                "the loss of a learned ensemble gives the experts' logits no gradient, but they require one",
                fix="fit it on logits.detach(), or train the experts through forward()",
            )
        return self.loss_of_pieces(_pieces(logits, target), (target != ignore_index).sum(), ignore_index=ignore_index)

    def loss_of_pieces(
        self, pieces: Iterable[Piece], labelled: Integer[Tensor, ""], *, ignore_index: int = 255
    ) -> Float[Tensor, ""]:
        """``loss`` of pixels that come piece by piece, in memory of one piece; to be differentiated once.

        Args:
            pieces: Logits (experts, classes, pixels), which get no gradient, and labels (pixels) of every piece; read once.
            labelled: Number of labelled pixels of all pieces.
            ignore_index: Label of the pixels that do not count.
        """
        if self.objective == "scores":
            total = self.summed_in_autograd(pieces, ignore_index)
        else:
            total = summed_loss(
                pieces,
                self.weight,
                self.outer_weight,
                self.bias.expand(len(self.raw_weight), -1),
                inputs=self.inputs,
                normalise=self.objective == "likelihood",
                ignore_index=ignore_index,
            )
        return total / labelled.clamp(min=1)

    def summed_in_autograd(self, pieces: Iterable[Piece], ignore_index: int = 255) -> Float[Tensor, ""]:
        """Sum of the loss over the labelled pixels, as the equations stand: what ``summed_loss`` has in closed form."""

        def of_piece(piece: Piece) -> Tensor:
            logits, target = piece
            final = self.unnormalised(logits.to(self.bias.dtype).unsqueeze(1))
            if self.objective == "scores":
                final = final.softmax(dim=1)
            elif self.objective == "likelihood":
                final = final / final.sum(dim=1, keepdim=True)
            return summed_nll(final, target.unsqueeze(0), ignore_index)

        return sum_over_blocks(of_piece, pieces, [self.raw_weight, self.bias])

    @torch.no_grad()
    def labels_of_piece(self, logits: Float[Tensor, "experts classes pixels"]) -> Integer[Tensor, " pixels"]:
        """Argmax of ``forward`` over the classes, without the normalisations that do not move it."""
        logits = logits.to(self.bias.dtype)
        _, powers, per = calibrate(logits, self.weight, self.bias.expand(len(logits), -1), self.inputs)
        final = torch.zeros_like(powers[0])
        for own, factor, outer in zip(powers, per, self.outer_weight, strict=True):
            final.addcmul_(own, torch.outer(outer, factor))
        return most_probable(final.unsqueeze(0))[0]

    def _inputs(self, logits: Tensor) -> Tensor:
        if self.inputs == "logits":
            return logits
        return logits.log_softmax(dim=2) if self.inputs == "log_probabilities" else logits.softmax(dim=2)


def _pieces(logits: Tensor, target: Tensor) -> Iterator[Piece]:
    """Whole maps (experts, n, classes, h, w), or boxes, as pieces of their pixels."""
    for block in blocks_of(logits):
        part = cut(logits, block, images=1).movedim(2, 1)
        yield part.flatten(2), cut(target, block).flatten()
