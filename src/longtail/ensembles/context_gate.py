"""A context-aware decision-maker: per-pixel weights of the experts, from what they say and what they see."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from longtail.ensembles.base import TrainableEnsemble
from longtail.ensembles.blockwise import Block, blocks_of, cut, sum_over_blocks
from longtail.ensembles.learned import LearnedEnsemble, summed_nll


class ContextGate(TrainableEnsemble):
    """MEDOE's decision-maker with a third factor: how far each expert is to be trusted *at this pixel*.

    ``p_final ∝ Σ_i g_i w_i ⊙ p̂_i`` with w, β, p̂ of ``LearnedEnsemble`` and g a softmax over the experts that a small
    network computes on the decoder's grid from, for every expert, the probability mass it gives each category group, its
    confidence and entropy, and its decoded features. The gate starts uniform, so the initial state is the plain average.

    The paper leaves "training a robust output ensemble decision-maker" open (§5); this is our extension, not its method.

    Args:
        num_experts: K.
        num_classes: C.
        channels: Channels of the experts' decoded features.
        groups: (G, C) partition of the classes into groups.
        expert_of: (C,) expert that dominates each class, the target of ``selection_weight``.
        hidden: Width of the gate.
        selection_weight: Weight of a second loss, cross-entropy of the gate against the dominating expert.
    """

    needs_features = True

    def __init__(
        self,
        num_experts: int,
        num_classes: int,
        channels: int,
        groups: Bool[Tensor, "groups classes"],
        expert_of: Integer[Tensor, " classes"],
        *,
        hidden: int = 32,
        selection_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.selection_weight = selection_weight
        self.calibration = LearnedEnsemble(num_experts, num_classes)
        self.register_buffer("groups", groups.float(), persistent=False)
        self.register_buffer("expert_of", expert_of, persistent=False)
        self.groups: Tensor
        self.expert_of: Tensor
        self.from_opinions = nn.Conv2d(num_experts * (len(groups) + 2), hidden, 1)
        self.from_features = nn.Conv2d(num_experts * channels, hidden, 1, bias=False)
        self.surroundings = nn.Conv2d(hidden, hidden, 5, padding=2, groups=hidden)
        self.decide = nn.Conv2d(hidden, num_experts, 1)
        for parameter in self.decide.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        logits: Float[Tensor, "experts n classes h w"],
        features: Float[Tensor, "experts n channels hf wf"] | None = None,
    ) -> Float[Tensor, "n classes h w"]:
        return self._mixture(logits, self.gate(logits, features))

    def loss(
        self,
        logits: Float[Tensor, "experts n classes h w"],
        target: Integer[Tensor, "n h w"],
        features: Float[Tensor, "experts n channels hf wf"] | None = None,
        *,
        ignore_index: int = 255,
    ) -> Float[Tensor, ""]:
        logits = logits.float()
        gate = self.gate(logits, features)

        def of_block(block: Block) -> Tensor:
            mixture = self._mixture(cut(logits, block, images=1), cut(gate, block))
            return summed_nll(mixture, cut(target, block), ignore_index)

        total = sum_over_blocks(of_block, list(blocks_of(logits)), [gate, *self.calibration.parameters()])
        known = target != ignore_index
        if self.selection_weight:
            expert = self.expert_of[target.long().where(known, 0)].where(known, ignore_index)
            total = total + self.selection_weight * summed_nll(gate, expert, ignore_index)
        return total / known.sum().clamp(min=1)

    def gate(
        self, logits: Float[Tensor, "experts n classes h w"], features: Float[Tensor, "experts n channels hf wf"] | None
    ) -> Float[Tensor, "n experts h w"]:
        """Trust in every expert at every pixel; sums to 1 over the experts."""
        if features is None:
            raise TypeError("ContextGate reads the experts' decoded features; pass features=")
        dtype = self.decide.weight.dtype
        coarse = F.adaptive_avg_pool2d(logits.flatten(0, 1).to(dtype), (features.shape[-2], features.shape[-1]))
        coarse = coarse.unflatten(0, logits.shape[:2])
        logs = coarse.log_softmax(dim=2)
        probabilities = logs.exp()
        mass = torch.einsum("knchw,gc->knghw", probabilities, self.groups)
        confidence = probabilities.amax(dim=2, keepdim=True)
        entropy = -(probabilities * logs).sum(dim=2, keepdim=True)
        opinions = torch.cat([mass, confidence, entropy], dim=2)
        hidden = self.from_opinions(_side_by_side(opinions)) + self.from_features(_side_by_side(features.to(dtype)))
        hidden = F.gelu(hidden)
        hidden = F.gelu(hidden + self.surroundings(hidden))
        trust = F.interpolate(self.decide(hidden), logits.shape[-2:], mode="bilinear", align_corners=False)
        return trust.softmax(dim=1)

    def _mixture(self, logits: Tensor, gate: Tensor) -> Tensor:
        mixture = torch.einsum("knchw,nkhw->nchw", self.calibration.weighted(logits), gate)
        return mixture / mixture.sum(dim=1, keepdim=True)


def _side_by_side(values: Tensor) -> Tensor:
    """(experts, n, channels, h, w) -> (n, experts * channels, h, w)."""
    return values.transpose(0, 1).flatten(1, 2)
