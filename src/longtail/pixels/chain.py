"""Labels of the nested chain, from the classes that each expert decides between."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from longtail.ensembles.nested_chain import NestedChain
from longtail.precision import at_least_float32

#: A pixel's largest logit is found at the heads' own resolution; below this sum its powers have no digits left.
_LEAST_TOTAL = 1e-30


class ChainScores:
    """Logarithms of the nested chain's probabilities, with the classes in the order of the groups.

    Expert i is read at the classes of :math:`S_i` alone: the others are not interpolated. A softmax does not see what
    all its classes share, so that the largest logit is subtracted before the interpolation and powers need no other
    care.

    Args:
        ensemble: The chain.

    Source: SPEC part 3, §3.1.
    """

    def __init__(self, ensemble: NestedChain) -> None:
        self._ensemble = ensemble
        sizes = ensemble.group_sizes
        self._read = [ensemble.members[sum(sizes[:i]) :] for i in range(len(sizes))]
        self._lengths = [len(classes) for classes in self._read]

    def prepare(self, logits: Float[Tensor, "experts n classes h w"]) -> Float[Tensor, "n read h w"]:
        """Maps to interpolate: the classes that each expert is read at, one expert after the other."""
        read = [at_least_float32(own[:, classes]) for own, classes in zip(logits, self._read, strict=True)]
        return torch.cat([own - own.amax(dim=1, keepdim=True) for own in read], dim=1)

    def __call__(self, prepared: Float[Tensor, "n read rows w"]) -> Float[Tensor, "n classes rows w"]:
        """Scores of every pixel; overwrites the interpolated maps."""
        remaining = torch.zeros_like(prepared[:, :1])
        parts, last = [], len(self._lengths) - 1
        for index, own in enumerate(prepared.split(self._lengths, dim=1)):
            size = self._ensemble.group_sizes[index]
            powers = own.exp()
            mass = powers[:, :size].sum(dim=1, keepdim=True)
            rarer = powers[:, size:].sum(dim=1, keepdim=True)
            if not bool((mass + rarer >= _LEAST_TOTAL).all()):
                own.sub_(own.amax(dim=1, keepdim=True))
                powers = own.exp()
                mass, rarer = (part.sum(dim=1, keepdim=True) for part in (powers[:, :size], powers[:, size:]))
            # a mass without digits belongs to a group that is not the most probable one
            log_mass = mass.clamp_(min=_LEAST_TOTAL).log_()
            if index < last:
                decision = log_mass - rarer.clamp_(min=_LEAST_TOTAL).log_() - self._ensemble.log_prior_odds[index]
                taken = remaining + logsigmoid(decision)
                remaining = remaining + logsigmoid(-decision)
            else:
                taken = remaining
            parts.append(own[:, :size].add_(taken - log_mass))
        return torch.cat(parts, dim=1)
