"""Nested chain: combine experts of nested label sets by the chain rule of probability."""

from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from longtail.ensembles.base import Ensemble
from longtail.errors import ConfigError
from longtail.precision import at_least_float32
from longtail.shapes import ExpertFeatures, ExpertScores, Probabilities


class NestedChain(Ensemble):
    r"""Each expert decides between its own group and the rarer classes, and among the classes of its group.

    Expert i is trained on pixels of :math:`S_i` alone, so that its softmax :math:`z_i` within :math:`S_i` reads as
    :math:`p(c \mid y \in S_i)`. For a class c of group i, :math:`G_i = S_i \setminus S_{i+1}`, the chain rule gives

    .. math::
        p(c) = \prod_{j<i} (1 - q_j) \cdot q_i \cdot z_i(c) / a_i, \qquad
        q_i = \frac{a_i / \pi_i^\tau}{a_i / \pi_i^\tau + b_i / \rho_i^\tau}, \quad q_K = 1,

    with :math:`a_i = \sum_{c \in G_i} z_i(c)`, :math:`b_i = 1 - a_i`, and :math:`\pi_i, \rho_i` the shares of
    :math:`G_i` and :math:`S_{i+1}` in the training pixels. τ = 0 is the chain rule; τ > 0 takes a part of the prior out
    of the decisions between groups. The odds within a group stay.

    At τ = 0, experts that agree (each is expert 1 within its own set) give back expert 1. Permuting the experts is
    permuting the groups.

    Args:
        label_sets: (K, C), whether a class is in an expert's label set; each set holds the next one, and more.
        share: (C,) share of each class in the training data.
        tau: τ >= 0.

    Raises:
        ConfigError: The label sets are not nested, τ is negative, or τ > 0 and a group has no pixels.

    Source: SPEC part 3, §3.1; not in the papers.
    """

    def __init__(
        self,
        label_sets: Bool[Tensor, "experts classes"],
        share: Float[Tensor, " classes"],
        tau: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= tau < torch.inf:
            raise ConfigError(f"tau is {tau}", fix="give a number from 0; 0 is the chain rule as it stands")
        nested = all(bool((inner <= outer).all() and (inner < outer).any()) for outer, inner in pairwise(label_sets))
        if not nested or not label_sets[0].all() or not label_sets[-1].any():
            raise ConfigError(
                f"the nested chain with label sets of {label_sets.sum(dim=1).tolist()} classes that are not nested",
                fix="choose overlap: nested (the first expert knows every class, each later one fewer), or another "
                "ensemble",
            )
        self.tau = tau
        following = torch.cat([label_sets[1:], torch.zeros_like(label_sets[:1])])
        groups = [group.nonzero().flatten() for group in label_sets & ~following]
        #: Number of classes of every group.
        self.group_sizes = [len(group) for group in groups]
        order = torch.cat(groups)
        masses = torch.stack([share[group].sum() for group in groups]).double()
        if tau > 0 and not bool((masses > 0).all()):
            raise ConfigError(
                f"tau = {tau}, but the classes of expert {int(masses.argmin()) + 1} have no training pixels",
                fix="count the data that the experts are trained on, choose other groups, or set tau to 0",
            )
        rest = masses.flip(0).cumsum(0).flip(0) - masses
        odds = (masses[:-1].log() - rest[:-1].log()).float() if tau > 0 else torch.zeros(len(masses) - 1)
        #: log (π_i / ρ_i)^τ of every decision.
        self.register_buffer("log_prior_odds", tau * odds, persistent=False)
        #: Classes in the order of the groups, and the place of every class in it.
        self.register_buffer("members", order, persistent=False)
        self.register_buffer("places", order.argsort(), persistent=False)
        self.log_prior_odds: Tensor
        self.members: Tensor
        self.places: Tensor

    def forward(self, logits: ExpertScores, features: ExpertFeatures = None) -> Probabilities:
        """Class probabilities; ``features`` are not read.

        Raises:
            ConfigError: There are more or fewer experts than label sets.
        """
        if len(logits) != len(self.group_sizes):
            raise ConfigError(
                f"the nested chain has {len(self.group_sizes)} label sets for {len(logits)} experts",
                fix="give every expert one set",
            )
        members = self.members.split(self.group_sizes)
        remaining = torch.zeros_like(logits[0, :, :1], dtype=at_least_float32(logits[:0]).dtype)
        parts = []
        for index, own in enumerate(logits):
            own = at_least_float32(own)
            group = own[:, members[index]]
            within = group.log_softmax(dim=1)
            if index == len(logits) - 1:
                parts.append((remaining + within).exp())
                break
            rarer = own[:, torch.cat(members[index + 1 :])].logsumexp(dim=1, keepdim=True)
            log_odds = group.logsumexp(dim=1, keepdim=True) - rarer - self.log_prior_odds[index]
            parts.append((remaining + logsigmoid(log_odds) + within).exp())
            remaining = remaining + logsigmoid(-log_odds)
        return torch.cat(parts, dim=1)[:, self.places]
