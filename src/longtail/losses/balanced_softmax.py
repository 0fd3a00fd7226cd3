"""Balanced softmax: the softmax of a training set in which every class were equally likely."""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from longtail.distributed import all_reduce_sum
from longtail.frequency.counts import ClassFrequency
from longtail.losses.base import ClassificationLoss
from longtail.losses.class_counts import training_counts
from longtail.losses.cross_entropy import Normalizer, cross_entropy, known_normalizer
from longtail.losses.logit_adjustment import log_prior, over_classes
from longtail.options import one_of

Counts = Literal["data", "seen"]


class BalancedSoftmax(ClassificationLoss):
    """``-log n_y e^{o_y} / Σ_c n_c e^{o_c}`` in training, a plain softmax in use.

    With the counts of the data it is ``LogitAdjustedLoss`` with τ = 1. With those of the labels that it has ``seen``
    it follows the sampler (repeat factors, crops, boxes drawn from proposals) and knows the background's share, which
    nobody counts; that balances objects against background, too. The labels of all ranks are counted.

    Args:
        prior: Logarithm of each class's share, up to a constant: ``log_prior``; read where ``counts`` is ``data``.
        ignore_index: Target value of positions without a label.
        counts: ``data``, or ``seen``: a running count of the labels of training, each class beginning with 1.
        normalizer: See ``cross_entropy.Normalizer``.

    Raises:
        ConfigError: An unknown way to count.

    Source: Ren et al. 2020, Eq. 3-4.
    """

    prior: Tensor
    seen: Tensor

    def __init__(
        self,
        prior: Float[Tensor, " classes"],
        ignore_index: int = 255,
        *,
        counts: Counts = "data",
        normalizer: Normalizer = "valid",
    ) -> None:
        super().__init__(len(prior), ignore_index)
        self.counts: Counts = one_of("counts", counts, get_args(Counts))
        self.normalizer = known_normalizer(normalizer)
        self.register_buffer("prior", prior.float(), persistent=False)
        if counts == "seen":
            self.register_buffer("seen", torch.ones(len(prior), dtype=torch.int64))

    @classmethod
    def from_frequency(  # type: ignore[override]
        cls,
        frequency: ClassFrequency,
        *,
        background: bool = False,
        ignore_index: int = 255,
        counts: Counts = "data",
        background_share: float | None = None,
        normalizer: Normalizer = "valid",
    ) -> "BalancedSoftmax":
        """The loss for counted data: instances for boxes, labelled pixels for pixels.

        Args:
            frequency: Counts of the training split.
            background: Boxes are classified.
            ignore_index: Target value of positions without a label.
            counts: ``data`` or ``seen``.
            background_share: See ``log_prior``; of ``data``.
            normalizer: See ``cross_entropy.Normalizer``.
        """
        of_data = training_counts(frequency, background=background)
        prior = log_prior(of_data, background=background, background_share=background_share)
        return cls(prior, ignore_index, counts=counts, normalizer=normalizer)

    def forward(
        self,
        logits: Float[Tensor, "n logits *grid"],
        target: Integer[Tensor, "n *grid"],
        position_weight: Float[Tensor, "n *grid"] | None = None,
    ) -> Float[Tensor, ""]:
        prior = self.prior
        if self.counts == "seen":
            if self.training:
                labels = target[target != self.ignore_index].long()
                self.seen += all_reduce_sum(torch.bincount(labels, minlength=self.num_classes))
            prior = torch.log(self.seen / self.seen.sum())
        return cross_entropy(
            logits + over_classes(prior, logits),
            target,
            ignore_index=self.ignore_index,
            normalizer=self.normalizer,
            position_weight=position_weight,
        )
