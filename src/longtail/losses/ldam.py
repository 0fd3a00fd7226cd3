"""Label-distribution-aware margins, with re-weighting deferred to the end of training."""

from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from longtail.errors import ConfigError
from longtail.frequency.counts import ClassFrequency, Unit
from longtail.losses.base import ClassificationLoss
from longtail.losses.class_balanced import effective_number_weights, sample_unit
from longtail.losses.class_counts import append_background, training_counts
from longtail.losses.cross_entropy import Normalizer, cross_entropy, known_normalizer


def class_margins(counts: Float[Tensor, " c"], max_margin: float = 0.5) -> Float[Tensor, " c"]:
    """Margins ``Δ_c ∝ n_c^(-1/4)``, the rarest class's ``max_margin``.

    Args:
        counts: Samples of each class, at least 1.
        max_margin: C of the paper: the largest margin, in units of the cosine.

    Source: Cao et al. 2019, Eq. 12-13.
    """
    margins = counts ** (-0.25)
    return max_margin * margins / margins.max()


class LDAMLoss(ClassificationLoss):
    """Cross-entropy in which the logit of the label must lead by a margin, the larger the rarer the class.

    With the logits :math:`o = s\\,z`, where z is a cosine,

    .. math::
        \\ell = CE(o - s Δ_y e_y, y), \\quad Δ_c ∝ n_c^{-1/4}

    and from ``defer`` of the phase on each class weighs by its effective number of samples (deferred re-weighting).

    The classifier owns the scale of its logits, as a cosine classifier with temperature s does: nothing is multiplied
    here, and a softmax reads the logits. Set ``scale`` to that temperature. The logits of a linear classifier are
    taken for :math:`s z` too: literally multiplying them by s = 30 would only multiply its learning rate by 900.

    The background of boxes has no margin and weighs 1.

    Args:
        margins: Margin of each class that the target may name, in units of the cosine.
        weights: Weight of each such class at the end of training; None for no re-weighting.
        ignore_index: Target value of positions without a label.
        scale: s > 0.
        defer: Fraction of the phase from which the classes weigh; 1 for never.
        normalizer: See ``cross_entropy.Normalizer``; ``valid`` divides by the sum of the weights.

    Raises:
        ConfigError: Numbers of margins and weights that differ, or a setting out of its range.

    Source: Cao et al. 2019, Eq. 10-13 and Algorithm 1; s = 30, C = 0.5, β = 0.9999 and the re-weighting of the last
    fifth are their code's. MEDOE Table 2 says nothing about its own (SPEC M22).
    """

    margins: Tensor
    weights: Tensor | None

    def __init__(
        self,
        margins: Float[Tensor, " classes"],
        weights: Float[Tensor, " c"] | None = None,
        ignore_index: int = 255,
        *,
        scale: float = 30.0,
        defer: float = 0.8,
        normalizer: Normalizer = "valid",
    ) -> None:
        super().__init__(len(margins), ignore_index)
        if weights is not None and len(weights) != len(margins):
            raise ConfigError(
                f"{len(weights)} class weights for {len(margins)} margins", fix="give one of both for each class"
            )
        if not scale > 0 or not 0 <= defer <= 1:
            raise ConfigError(
                f"LDAM has scale={scale}, defer={defer}", fix="give a scale above 0 and a fraction of the phase"
            )
        self.scale = scale
        self.defer = defer
        self.normalizer = known_normalizer(normalizer)
        self.progress = 0.0
        self.register_buffer("margins", margins.float(), persistent=False)
        self.register_buffer("weights", None if weights is None else weights.float(), persistent=False)

    @classmethod
    def from_frequency(
        cls,
        frequency: ClassFrequency,
        *,
        background: bool = False,
        ignore_index: int = 255,
        max_margin: float = 0.5,
        beta: float | None = 0.9999,
        unit: Unit | None = None,
        **options: Any,
    ) -> "LDAMLoss":
        """The loss for counted data.

        Args:
            frequency: Counts of the training split.
            background: Boxes are classified.
            ignore_index: Target value of positions without a label.
            max_margin: See ``class_margins``; the counts are instances of boxes, pixels of pixels.
            beta: See ``effective_number_weights``; None for no re-weighting.
            unit: What a sample is for the weights; see ``ClassBalancedLoss``.
            **options: ``scale``, ``defer``, ``normalizer``.
        """
        margins = class_margins(training_counts(frequency, background=background), max_margin)
        weights = None
        if beta is not None:
            counts = training_counts(frequency, background=background, unit=unit or sample_unit(background))
            weights = append_background(effective_number_weights(counts, beta), background, 1.0)
        return cls(append_background(margins, background, 0.0), weights, ignore_index, **options)

    def forward(
        self,
        logits: Float[Tensor, "n logits *grid"],
        target: Integer[Tensor, "n *grid"],
        position_weight: Float[Tensor, "n *grid"] | None = None,
    ) -> Float[Tensor, ""]:
        target = target.long()
        logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        label = target.where(target != self.ignore_index, 0)
        margin = (-self.scale * self.margins[label]).to(logits.dtype)
        return cross_entropy(
            logits.scatter_add(1, label.unsqueeze(1), margin.unsqueeze(1)),
            target,
            ignore_index=self.ignore_index,
            normalizer=self.normalizer,
            weight=self.weights.to(logits.dtype) if self.weights is not None and self.progress >= self.defer else None,
            position_weight=position_weight,
        )

    def set_progress(self, fraction: float) -> None:
        """Classes weigh from ``defer`` on."""
        self.progress = fraction
