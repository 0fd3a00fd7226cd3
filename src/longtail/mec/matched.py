"""The multi-expert loss of detectors that match queries to objects and bring their own classification loss."""

from collections.abc import Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtail.detection.matches import Matches
from longtail.mec.losses import Outside, check_arguments
from longtail.precision import at_least_float32
from longtail.settings import one_of
from longtail.shapes import Scalar


class MatchedExpertLoss(nn.Module):
    r"""What turns a detector's own classification loss into that of the expert of one group.

    With the own loss :math:`\ell(q)` of a query :math:`q`, its logits :math:`o` and the label :math:`y` of the object
    that it is matched with, the expert's loss is

    .. math::
        \ell'(q) = \begin{cases} λ\,\ell(q) + (1-λ)\,u_q\,CE(o|_G, y) & y ∈ G \\ \ell(q) & y ∉ G \text{ or no object}
        \end{cases}

    C independent sigmoids give exactly one class of G with odds :math:`e^{o_c}`, so that the probability of y among
    them is the softmax within the group: p̃ of Eq. 1 is the same for sigmoids. :math:`u_q` is 1, and the quality of
    the match where the own loss weighs matches by it: then y is true with that mass only. Sums are divided as the own
    loss divides its own.

    ``forward`` gives :math:`Σ_q \ell'(q) - \ell(q)` over the divisor, to be added to the own loss; None where that is
    0, so that λ = 1 is the detector to the bit.

    Args:
        group: Class ids of this stage's group; may be empty, which leaves the own loss.
        num_classes: Number of foreground classes C.
        overall_weight: λ of Eq. 2 in [0, 1]; 1 is the own loss.
        outside: Weight of matched classes outside the group: ``plain`` (1) or ``lambda`` (λ). Queries without an
            object always weigh 1.

    Raises:
        ConfigError: A weight outside [0, 1], or an id outside the classes.

    Source: MEC Eq. 1-2; docs/papers/mec.md derives the form for sigmoids.
    """

    place: Tensor
    columns: Tensor

    def __init__(
        self, group: Sequence[int], num_classes: int, *, overall_weight: float = 0.7, outside: Outside = "plain"
    ) -> None:
        super().__init__()
        check_arguments(group, num_classes + 1, overall_weight)
        self.num_classes = num_classes
        self.group = tuple(sorted(int(c) for c in group))
        self.overall_weight = overall_weight
        self.outside: Outside = one_of("outside", outside, get_args(Outside))
        place = torch.full((num_classes,), -1)
        place[list(self.group)] = torch.arange(len(self.group))
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("columns", torch.tensor(self.group, dtype=torch.long), persistent=False)

    def forward(self, matches: Matches) -> Scalar | None:
        """The change of the own loss; None for none.

        Args:
            matches: Queries of this stage with their objects, and the own loss of any of them.
        """
        if self.overall_weight == 1.0 or not self.group or not len(matches.labels):
            return None
        place = self.place[matches.labels]
        members = (place >= 0).nonzero().squeeze(1)
        lowered = members if self.outside == "plain" else torch.arange(len(place), device=place.device)
        if not len(lowered):
            return None
        change = -matches.own(lowered)
        if len(members):
            change = change + self._within(matches, members, place[members])
        return (1.0 - self.overall_weight) * change / matches.divisor

    def _within(self, matches: Matches, members: Tensor, place: Tensor) -> Scalar:
        """Sum of the cross-entropy within the group."""
        logits = at_least_float32(matches.logits[members])[:, self.columns]
        if matches.quality is None:
            return F.cross_entropy(logits, place, reduction="sum")
        each = F.cross_entropy(logits, place, reduction="none")
        return (matches.quality[members] * each).sum()

    def extra_repr(self) -> str:
        return f"classes in group: {len(self.group)}, overall_weight={self.overall_weight}, outside={self.outside}"
