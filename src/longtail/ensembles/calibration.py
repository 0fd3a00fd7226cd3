"""Calibration after training: an ensemble around another that undoes the imbalance."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from longtail.ensembles.base import Ensemble
from longtail.ensembles.build import Experts
from longtail.errors import ConfigError
from longtail.frequency.counts import Unit
from longtail.precision import at_least_float32
from longtail.shapes import ExpertFeatures, ExpertLogits, Probabilities


def size_divisors(counts: Float[Tensor, " c"], gamma: float = 0.6) -> Float[Tensor, " c"]:
    """n_c^γ, by which NorCal divides; counts of 0 are read as 1, γ = 0 changes nothing.

    Source: NorCal (Pan 2021), Eqs. 3-4; PEERS part 2, 4.
    """
    return counts.clamp(min=1) ** gamma


def prior_divisors(counts: Float[Tensor, " c"], tau: float = 1.0) -> Float[Tensor, " c"]:
    """π_c^τ with the class prior π = n / Σ n, by which post-hoc logit adjustment divides; counts of 0 are read as 1.

    Source: Logit adjustment (Menon 2021), Eq. 9.
    """
    counts = counts.clamp(min=1)
    return (counts / counts.sum()) ** tau


def counts_of(experts: Experts, unit: Unit) -> np.ndarray:
    """Counts of every foreground class.

    Raises:
        ConfigError: There are none, or the unit was not counted.
    """
    if experts.frequency is None:
        raise ConfigError("the calibration needs the counts of the training split", fix="pass frequency=")
    return experts.frequency.counts(unit)


def divide_probabilities(
    probabilities: Probabilities, divisors: Float[Tensor, " c"], *, independent: bool = False
) -> Probabilities:
    r"""Divide the probabilities of the first c classes, keep the rest (background), and normalise the sum to 1.

    The same as taking the logarithms of the divisors from the logits of a softmax. ``independent`` does so for
    sigmoids, one class at a time: :math:`\frac{p/a}{p/a + 1 - p}`; there the rest is not changed.

    Source: NorCal (Pan 2021), Eqs. 3 and 5.
    """
    number = len(divisors)
    divisors = divisors.to(probabilities.dtype).view(-1, *[1] * (probabilities.ndim - 2))
    classes, rest = probabilities[:, :number], probabilities[:, number:]
    divided = classes / divisors
    if independent:
        return torch.cat([divided / (divided + 1 - classes), rest], dim=1)
    together = torch.cat([divided, rest], dim=1)
    return together / together.sum(dim=1, keepdim=True)


class Calibrated(Ensemble):
    """Another ensemble's probabilities after ``divide_probabilities``.

    Identical experts give the inner ensemble's result, calibrated. Calibrating the result and not the
    experts keeps group alignment from taking the calibration out again.

    Args:
        inner: The ensemble.
        divisors: Of every foreground class: ``size_divisors`` (NorCal), ``prior_divisors`` (logit adjustment).
        independent: The probabilities are of one sigmoid per class.
    """

    divisors: Tensor

    def __init__(self, inner: Ensemble, divisors: Float[Tensor, " c"], *, independent: bool = False) -> None:
        super().__init__()
        if not bool((divisors > 0).all() & divisors.isfinite().all()):
            raise ConfigError("a class is divided by a number that is not above 0", fix="choose a smaller power")
        self.inner = inner
        self.independent = independent
        self.needs_features = inner.needs_features
        self.register_buffer("divisors", divisors, persistent=False)

    def forward(self, logits: ExpertLogits, features: ExpertFeatures = None) -> Probabilities:
        return divide_probabilities(self.inner(logits, features), self.divisors, independent=self.independent)


class LogitNormalized(Ensemble):
    r"""Normalise the logits for another ensemble: every class gets the deviation 1 and the smallest of the classes' means.

    .. math::
        o'_c = \frac{o_c - (μ_c - \min_j μ_j)}{\sqrt{σ_c^2 + ε}}

    for the foreground classes of each expert, with mean and variance of what ``observe`` was shown: boxes of training
    images. Logits beyond the classes (background) stay.

    Identical experts do not give back the expert, since its logits are changed.

    Args:
        inner: The ensemble.
        num_experts: Number of experts.
        num_classes: Number of foreground classes.
        eps: ε.

    Source: LogN (Zhao 2024); PEERS part 2, 4. Exact statistics instead of moving ones.
    """

    mean: Tensor
    deviations: Tensor
    number: Tensor

    def __init__(self, inner: Ensemble, num_experts: int, num_classes: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.inner = inner
        self.eps = eps
        self.needs_features = inner.needs_features
        self.register_buffer("mean", torch.zeros(num_experts, num_classes))
        self.register_buffer("deviations", torch.zeros(num_experts, num_classes))  # sum of squares about the mean
        self.register_buffer("number", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def observe(self, logits: ExpertLogits) -> None:
        """Add to the statistics; any parts of the data in any order give the same."""
        experts, classes = self.mean.shape
        self._check(logits)
        rows = logits[:, :, :classes].movedim(2, -1).reshape(experts, -1, classes).to(self.mean.dtype)
        before, found = int(self.number), rows.shape[1]
        if not found:
            return
        mean, part = rows.mean(dim=1), found / (before + found)
        step = mean - self.mean
        self.deviations += (rows - mean.unsqueeze(1)).square().sum(dim=1) + step.square() * before * part
        self.mean += step * part
        self.number += found

    def forward(self, logits: ExpertLogits, features: ExpertFeatures = None) -> Probabilities:
        """Class probabilities.

        Raises:
            ConfigError: Nothing was observed yet.
        """
        if not self.number:
            raise ConfigError(
                "the logit normalisation has seen no logits", fix="call observe with those of training images"
            )
        return self.inner(self.normalized(logits), features)

    def normalized(self, logits: ExpertLogits) -> ExpertLogits:
        """The experts' logits as the inner ensemble gets them."""
        self._check(logits)
        logits = at_least_float32(logits)
        shape = (len(self.mean), 1, -1, *[1] * (logits.ndim - 3))
        offset = self.mean - self.mean.amin(dim=1, keepdim=True)
        scale = (self.deviations / self.number + self.eps).rsqrt()
        classes, rest = logits.tensor_split([self.mean.shape[1]], dim=2)
        offset, scale = (v.to(logits.dtype).view(shape) for v in (offset, scale))
        return torch.cat([(classes - offset) * scale, rest], dim=2)

    def _check(self, logits: Tensor) -> None:
        if len(logits) != len(self.mean) or logits.shape[2] < self.mean.shape[1]:
            raise ConfigError(
                f"{len(logits)} experts with {logits.shape[2]} logits, but the statistics are of {len(self.mean)} "
                f"experts with {self.mean.shape[1]} classes",
                fix="build the normalisation for these experts",
            )
