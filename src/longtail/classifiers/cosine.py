"""Normalised classifier: rare classes have no shorter weights."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class CosineClassifier(nn.Module):
    """Scaled cosine between features and class weights, plus a bias.

    o_c = temperature <x / |x|, w_c / |w_c|> + b_c

    Args:
        in_features: Width of the features.
        num_logits: Number of outputs.
        temperature: Scale of the cosine.
        bias: Whether there is a bias.

    Source: MEC component C7 (Cos-Norm); temperature and bias as in the public seesaw configurations, SPEC §4.
    """

    def __init__(self, in_features: int, num_logits: int, temperature: float = 20.0, bias: bool = True) -> None:
        super().__init__()
        self.temperature = temperature
        self.weight = nn.Parameter(torch.empty(num_logits, in_features))
        self.bias = nn.Parameter(torch.zeros(num_logits)) if bias else None
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, features: Float[Tensor, "r f"]) -> Float[Tensor, "r logits"]:
        """Logits of the features."""
        directions = F.normalize(features, dim=1, eps=1e-6) * self.temperature
        return F.linear(directions, F.normalize(self.weight, dim=1, eps=1e-6), self.bias)
