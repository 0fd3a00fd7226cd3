"""De-confounded classifier: at inference, remove the component of a feature along the mean training feature."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from longtail.distributed import all_reduce_sum
from longtail.errors import ConfigError


class DeconfoundClassifier(nn.Module):
    r"""Normalised classifier of several heads, whose total direct effect is read in evaluation mode.

    Features and weights are cut into K parts, the heads. In training mode, and with every ``^`` of length 1,

    .. math::
        y_c = \frac{τ}{K} \sum_k \langle w̃_c^k, \hat x^k \rangle, \quad w̃_c^k = w_c^k / (|w_c^k| + γ)

    while a moving sum of the objects' mean features, :math:`e ← μ e + \bar x`, is kept. In evaluation mode the
    classes lose what they get from its direction,

    .. math::
        t_c = y_c - α \frac{τ}{K} \sum_k \langle \hat x^k, \hat e^k \rangle \langle w̃_c^k, \hat e^k \rangle

    and the background keeps its logit and its probability: all classes are shifted by one number for it, which makes
    a softmax of the logits ``(t + shift, y_background)`` the paper's background-exempted inference. So any ensemble
    may read them.

    Args:
        in_features: Width of the features; a multiple of ``heads``.
        num_logits: Number of outputs.
        exempt: Number of last outputs that are no class (the background and other logits of the loss); they keep their
            logits. With 0 nothing is shifted. Losses of sigmoids are shifted as a softmax is.
        heads: K.
        temperature: τ.
        gamma: γ.
        alpha: α; 0 reads the plain logits.
        momentum: μ.

    Source: Tang 2020, Eqs. 7-10; momentum and exemption as in its detection code, but with the mean over objects only
    (that code leaves out class 0 and takes the background in). PEERS part 2, 4; SPEC C22.
    """

    embedding: Tensor

    def __init__(
        self,
        in_features: int,
        num_logits: int,
        *,
        exempt: int = 1,
        heads: int = 2,
        temperature: float = 16.0,
        gamma: float = 1 / 32,
        alpha: float = 1.5,
        momentum: float = 0.9998,
    ) -> None:
        super().__init__()
        if heads < 1 or in_features % heads:
            raise ConfigError(
                f"{in_features} features cannot be cut into {heads} heads", fix="choose a width that the heads divide"
            )
        if not 0 <= exempt < num_logits or not 0 <= momentum <= 1:
            raise ConfigError(
                f"the de-confounded classifier has exempt={exempt} of {num_logits} outputs, momentum={momentum}",
                fix="leave at least one output that is a class, and give a momentum in [0, 1]",
            )
        self.classes = num_logits - exempt
        self.heads = heads
        self.temperature, self.gamma, self.alpha, self.momentum = temperature, gamma, alpha, momentum
        self.weight = nn.Parameter(torch.empty(num_logits, in_features))
        self.register_buffer("embedding", torch.zeros(in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """New weights, and nothing known of objects in general."""
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        self.embedding.zero_()

    def forward(self, features: Float[Tensor, "r f"]) -> Float[Tensor, "r logits"]:
        """Logits of the features: plain in training mode, of the total direct effect in evaluation mode."""
        scale = self.temperature / self.heads
        directions = F.normalize(self._cut(features.to(self.weight.dtype)), dim=2, eps=1e-6)
        weight = self._cut(self.weight)
        weight = weight / (weight.norm(dim=2, keepdim=True) + self.gamma)
        logits = scale * F.linear(directions.flatten(1), weight.flatten(1)).to(self.weight.dtype)
        if self.training or self.alpha == 0:
            return logits
        common = F.normalize(self._cut(self.embedding[None]), dim=2, eps=1e-6)
        shared = F.linear((directions * common).sum(dim=2), (weight * common).sum(dim=2))
        return self._exempted(logits, self.alpha * scale * shared)

    @torch.no_grad()
    def observe(self, features: Float[Tensor, "r f"], foreground: Bool[Tensor, " r"]) -> None:
        """Move the sum of the objects' mean features on by one batch, of all ranks.

        Args:
            features: What ``forward`` is given.
            foreground: Rows that show an object; where no rank has one, nothing changes.
        """
        chosen = features.to(self.embedding.dtype) * foreground.unsqueeze(1)
        number = foreground.sum().to(chosen.dtype).reshape(1)
        found = all_reduce_sum(torch.cat([chosen.sum(dim=0), number]))
        kept = torch.where(found[-1] > 0, self.momentum, 1.0)
        self.embedding.mul_(kept).add_(found[:-1] / found[-1].clamp(min=1))

    def extra_repr(self) -> str:
        return f"heads={self.heads}, temperature={self.temperature}, alpha={self.alpha}, momentum={self.momentum}"

    def _exempted(self, logits: Tensor, effect: Tensor) -> Tensor:
        """Logits of which the classes lose the effect and together weigh as much as before."""
        plain, rest = logits.split([self.classes, logits.shape[1] - self.classes], dim=1)
        direct = plain - effect[:, : self.classes]
        if not rest.shape[1]:
            return direct
        shift = plain.logsumexp(dim=1, keepdim=True) - direct.logsumexp(dim=1, keepdim=True)
        return torch.cat([direct + shift, rest], dim=1)

    def _cut(self, rows: Float[Tensor, "r f"]) -> Float[Tensor, "r heads part"]:
        return rows.unflatten(1, (self.heads, -1))
