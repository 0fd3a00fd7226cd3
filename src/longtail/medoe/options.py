"""The readings of MEDOE's equations, as settings. This module does not import torch."""

from dataclasses import dataclass
from typing import Literal

from longtail.errors import ConfigError
from longtail.settings import check_fields

#: How the experts' label sets follow from the groups.
Overlap = Literal["nested", "disjoint_tail", "fully_disjoint"]
#: Weights of experts 2 … K: those of the first, or random ones.
Initialise = Literal["copy", "reset"]
#: Which classifiers train a shared decoder.
Gradient = Literal["first", "all"]
Scope = Literal["all", "set"]
Penalty = Literal["square", "absolute", "map"]


@dataclass(frozen=True)
class ExpertLossOptions:
    """How Eq. 3-5 are read. The defaults are SPEC's recommendations; every other value is another reading.

    Args:
        alpha: Weight α of the auxiliary loss (Eq. 5).
        softmax: Cross-entropy's softmax over ``all`` classes, or over the label ``set`` alone.
        normalizer: What cross-entropy's sum is divided by: labelled pixels of the expert, all pixels, or 1.
        penalty: ‖z‖ of Eq. 4: mean ``square``, mean ``absolute`` value, or the 2-norm of the whole ``map``, which grows
            with the number of pixels and silences the experts (SPEC finding 3); it is here for the record.
        penalty_pixels: Pixels of the penalty: every pixel that has a label, be it one of other experts alone (those of
            expert 1 reach the encoder), or those labelled for the expert.
        divergence: KL of the ``batch``'s mean prediction, or the mean of every ``pixel``'s KL, which punishes being
            sure of a rare class (SPEC finding 3).
        divergence_softmax: p over the label ``set`` (a true divergence), or over ``all`` classes, restricted to the set.
        prior: q renormalised within the label set, or the ``raw`` shares of the data set.
        momentum: Share of the running mean prediction in p̄, for small batches; 0 uses the batch alone. The gradient is
            the batch's own, whatever the share.

    Source: MEDOE Eq. 3-5; SPEC §2.3-2.5.
    """

    alpha: float = 0.2
    softmax: Scope = "all"
    normalizer: Literal["valid", "all", "sum"] = "valid"
    penalty: Penalty = "square"
    penalty_pixels: Literal["labelled", "expert"] = "labelled"
    divergence: Literal["batch", "pixel"] = "batch"
    divergence_softmax: Scope = "set"
    prior: Literal["renormalised", "raw"] = "renormalised"
    momentum: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.alpha >= 0 or not 0 <= self.momentum < 1:
            raise ConfigError(
                f"alpha {self.alpha} or momentum {self.momentum} is out of range",
                fix="use alpha >= 0, 0 <= momentum < 1",
            )
        if self.momentum and self.divergence == "pixel":
            raise ConfigError("a running mean has no meaning for a divergence per pixel", fix="set momentum to 0")

    @property
    def in_closed_form(self) -> bool:
        """Whether the sums over pixels are those of the default reading."""
        scopes = (self.softmax, self.divergence, self.divergence_softmax, self.penalty_pixels)
        return scopes == ("all", "batch", "set", "labelled") and self.penalty != "absolute"
