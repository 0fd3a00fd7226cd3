"""Post-hoc logit adjustment: probabilities divided by a power of the share of the classes."""

import torch

from longtail.ensembles.build import EnsembleSpec, Experts, build_ensemble
from longtail.ensembles.calibration import Calibrated, counts_of, prior_divisors
from longtail.frequency.counts import Unit


def logit_adjustment(
    experts: Experts,
    *,
    inner: EnsembleSpec = "average",
    tau: float = 1.0,
    unit: Unit | None = None,
    independent: bool = False,
) -> Calibrated:
    """Another ensemble's probabilities, those of each class divided by ``π_c^τ``.

    Args:
        experts: The experts, with counts.
        inner: the ensemble that is calibrated, by name or as {name: dynamic, temperature: 2}
        tau: τ, power of the share; 0 changes nothing
        unit: unit of the counts: pixels, instances or images; when not given, pixels of pixels and instances of boxes
        independent: read probabilities as one sigmoid for each class

    Source: Logit adjustment (Menon 2021), Eq. 9.
    """
    calibrated = build_ensemble(inner, experts)
    counts = torch.tensor(counts_of(experts, unit or experts.unit), dtype=torch.float32)
    return Calibrated(calibrated, prior_divisors(counts, tau), independent=independent)
