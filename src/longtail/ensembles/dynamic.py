"""Dynamic ensemble: weight every stage by its evidence for a group."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from longtail.ensembles.alignment import Activation, Background, GroupLayout
from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError
from longtail.frequency.groups import CategoryGroups
from longtail.settings import one_of
from longtail.shapes import ExpertFeatures, ExpertLogits, Probabilities

WeighBy = Literal["aligned", "raw"]


class DynamicEnsemble(Ensemble):
    r"""Mean of the stages' logits, weighted for each box and group by the group's smooth maximum at each stage.

    .. math::
        w_j^k = \mathrm{softmax}_k\, LSE_j^k, \quad LSE_j^k = \log \sum_{i ∈ G_j} e^{o_i^k/τ},
        \quad o_i = \sum_k w_{j(i)}^k o_i^k

    τ -> ∞ is the average of the logits; τ -> 0 takes the stage with the largest logit of the group. With ``align``
    identical stages do not give back the stage, since alignment changes its logits.

    Args:
        groups: Groups of the foreground classes; any number for any number of stages.
        temperature: τ > 0; the paper gives no value.
        lse_scaled: Multiply the LSE by τ, which makes it a maximum (τ -> 0) or a mean (τ -> ∞) of the group's logits;
            the paper does not, and at τ = 1 there is no difference.
        align: Align the groups of every stage first.
        weigh_by: Whether the LSE is of the aligned (the paper's order) or the raw logits.
        background: See ``alignment.Background``.
        keep_level: See ``alignment.GroupLayout``: for losses with ``absolute_logits``.
        activation: How the loss reads logits; None for softmax.

    Source: MEC Eq. 5-6; SPEC §2.17.
    """

    def __init__(
        self,
        groups: CategoryGroups,
        *,
        temperature: float = 1.0,
        lse_scaled: bool = False,
        align: bool = True,
        weigh_by: WeighBy = "aligned",
        background: Background = "relative",
        keep_level: bool = False,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ConfigError(f"temperature (tau) is {temperature}", fix="give a temperature above 0")
        self.layout = GroupLayout(groups, background, keep_level=keep_level)
        self.temperature = temperature
        self.lse_scaled = lse_scaled
        self.align = align
        self.weigh_by: WeighBy = one_of("weigh_by", weigh_by, get_args(WeighBy))
        self.activation = activation

    def forward(self, logits: ExpertLogits, features: ExpertFeatures = None) -> Probabilities:
        """Class probabilities; ``features`` are not read."""
        raw, rest = self.layout.split(logits)
        parts, rest = self.layout.align(raw, rest) if self.align else (raw, rest)
        speakers = parts if self.weigh_by == "aligned" else raw
        combined = [_weighted_sum(self._weights(speaker), part) for speaker, part in zip(speakers, parts, strict=True)]
        return self.layout.read(self.layout.join(combined, rest.mean(dim=0)), logits, self.activation)

    def stage_weights(self, logits: ExpertLogits) -> list[Float[Tensor, "experts n *grid"]]:
        """Weight of every stage for each group, summing to 1 over the stages: the stages that decided a detection."""
        raw, rest = self.layout.split(logits)
        parts = self.layout.align(raw, rest)[0] if self.align and self.weigh_by == "aligned" else raw
        return [self._weights(part).squeeze(2) for part in parts]

    def _weights(self, part: Float[Tensor, "experts n group *grid"]) -> Float[Tensor, "experts n 1 *grid"]:
        if not part.shape[2]:
            return part.new_full((*part.shape[:2], 1, *part.shape[3:]), 1.0 / len(part))
        tempered = part if self.temperature == 1.0 else part / self.temperature
        strength = tempered.logsumexp(dim=2, keepdim=True)
        return (strength * self.temperature if self.lse_scaled else strength).softmax(dim=0)


def _weighted_sum(weights: Tensor, part: Tensor) -> Tensor:
    """``(weights * part).sum(0)``, one stage at a time, without the product of all stages."""
    total = weights[0] * part[0]
    for weight, stage in zip(weights[1:], part[1:], strict=True):
        total = torch.addcmul(total, weight, stage)
    return total
