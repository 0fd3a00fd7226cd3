"""Balanced softmax: the softmax of a training set in which every class were equally likely."""

from typing import Literal, get_args

import torch
from torch import Tensor

from longtail.distributed import all_reduce_sum
from longtail.errors import ConfigError
from longtail.losses.cross_entropy import Normalizer, SoftmaxLoss, over_classes
from longtail.losses.label_space import LabelSpace
from longtail.losses.logit_adjustment import log_prior
from longtail.settings import one_of
from longtail.shapes import Logits, Target

Counts = Literal["data", "seen"]


class BalancedSoftmax(SoftmaxLoss):
    """``-log n_y e^{o_y} / Σ_c n_c e^{o_c}`` in training, a plain softmax in use.

    With the counts of the data it is ``LogitAdjustedLoss`` with τ = 1. With those of the labels that it has ``seen``
    it follows the sampler (repeat factors, crops, boxes drawn from proposals) and knows the background's share, which
    has no count; that balances objects against background as well. The labels of all ranks are counted.

    Args:
        labels: Classes, background and ignored value; with the training counts where ``counts`` is ``data``.
        counts: data (those of the training split), or seen: a running count of the labels of training, each class
            beginning with 1
        background_share: share of the background among the boxes that are classified; of counts = data
        normalizer: divisor of the sum over the labelled positions: valid (their number), all (the number of
            positions) or sum (1)

    Raises:
        ConfigError: An unknown way to count, or a ``background_share`` that is not read.

    Source: Ren et al. 2020, Eq. 3-4.
    """

    prior: Tensor
    seen: Tensor

    def __init__(
        self,
        labels: LabelSpace | int,
        *,
        counts: Counts = "data",
        background_share: float | None = None,
        normalizer: Normalizer = "valid",
    ) -> None:
        super().__init__(labels, normalizer)
        self.counts: Counts = one_of("counts", counts, get_args(Counts))
        if counts == "seen":
            if background_share is not None:
                raise ConfigError(
                    f"background_share is {background_share}, but the labels that were seen are counted",
                    fix="leave it out, or set counts to data",
                )
            self.register_buffer("seen", torch.ones(self.num_classes, dtype=torch.int64))
        else:
            space = self.labels
            prior = log_prior(space.counts(), background=space.background, background_share=background_share)
            self.register_buffer("prior", prior, persistent=False)

    def adjusted(self, logits: Logits, target: Target) -> Logits:
        if self.counts == "data":
            return logits + over_classes(self.prior, logits)
        if self.training:
            labels = target[target != self.ignore_index]
            self.seen += all_reduce_sum(torch.bincount(labels, minlength=self.num_classes))
        return logits + over_classes(torch.log(self.seen / self.seen.sum()), logits)
