"""Label-distribution-aware margins, with re-weighting deferred to the end of training."""

from jaxtyping import Float
from torch import Tensor

from longtail.errors import ConfigError
from longtail.frequency.counts import Unit
from longtail.losses.class_balanced import effective_number_weights
from longtail.losses.cross_entropy import Normalizer, SoftmaxLoss
from longtail.losses.label_space import LabelSpace
from longtail.shapes import Logits, Target


def class_margins(counts: Float[Tensor, " c"], max_margin: float = 0.5) -> Float[Tensor, " c"]:
    """Margins ``Δ_c ∝ n_c^(-1/4)``, the rarest class's ``max_margin``.

    Args:
        counts: Samples of each class, at least 1.
        max_margin: C of the paper: the largest margin, in units of the cosine.

    Source: Cao et al. 2019, Eq. 12-13.
    """
    margins = counts ** (-0.25)
    return max_margin * margins / margins.max()


class LDAMLoss(SoftmaxLoss):
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
        labels: Classes, background and ignored value, with the training counts.
        max_margin: margin of the rarest class, in units of the cosine
        scale: s > 0, the classifier's temperature
        beta: β of the effective number by which classes weigh at the end of training (see class_balanced); null for no
            re-weighting
        unit: unit of a sample for the weights: images, instances or pixels; instances of boxes and images of pixels
            when not given
        defer: fraction of the phase from which the classes weigh; 1 for never
        normalizer: divisor of the sum over the labelled positions: valid (the sum of their weights), all (the
            number of positions) or sum (1)

    Raises:
        ConfigError: A setting out of its range, or a ``unit`` that is not read.

    Source: Cao et al. 2019, Eq. 10-13 and Algorithm 1; s = 30, C = 0.5, β = 0.9999 and the re-weighting of the last
    fifth are their code's. MEDOE Table 2 gives no values (SPEC M22).
    """

    margins: Tensor
    weights: Tensor | None

    def __init__(
        self,
        labels: LabelSpace,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        beta: float | None = 0.9999,
        unit: Unit | None = None,
        defer: float = 0.8,
        normalizer: Normalizer = "valid",
    ) -> None:
        super().__init__(labels, normalizer)
        if not scale > 0 or not 0 <= defer <= 1:
            raise ConfigError(f"LDAM has scale={scale}, defer={defer}", fix="give a scale above 0 and 0 <= defer <= 1")
        if beta is None and unit is not None:
            raise ConfigError(f"LDAM has unit={unit!r} without beta", fix="give beta, or leave unit out")
        self.scale = scale
        self.defer = defer
        self.progress = 0.0
        margins = labels.append_background(class_margins(labels.counts(), max_margin), 0.0)
        self.register_buffer("margins", margins, persistent=False)
        weights = None
        if beta is not None:
            weights = effective_number_weights(labels.independent_samples(unit), beta)
            weights = labels.append_background(weights, 1.0)
        self.register_buffer("weights", weights, persistent=False)

    def adjusted(self, logits: Logits, target: Target) -> Logits:
        label = target.where(target != self.ignore_index, 0)
        margin = (-self.scale * self.margins[label]).to(logits.dtype)
        return logits.scatter_add(1, label.unsqueeze(1), margin.unsqueeze(1))

    def current_weight(self) -> Float[Tensor, " logits"] | None:
        return self.weights if self.progress >= self.defer else None

    def set_progress(self, fraction: float) -> None:
        """Classes weigh from ``defer`` on."""
        self.progress = fraction
