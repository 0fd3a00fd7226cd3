"""NorCal: probabilities divided by a power of the size of the classes."""

import torch

from longtail.ensembles.build import EnsembleSpec, Experts, build_ensemble
from longtail.ensembles.calibration import Calibrated, counts_of, size_divisors
from longtail.frequency.counts import Unit


def norcal(
    experts: Experts,
    *,
    inner: EnsembleSpec = "average",
    gamma: float = 0.6,
    unit: Unit = "images",
    independent: bool = False,
) -> Calibrated:
    """Another ensemble's probabilities, those of each class divided by ``n_c^γ``.

    Args:
        experts: The experts, with counts.
        inner: the ensemble that is calibrated, by name or as {name: dynamic, temperature: 2}
        gamma: γ, power of the size; 0 changes nothing
        unit: unit of the size of a class: images, instances or pixels
        independent: read probabilities as one sigmoid for each class

    Source: NorCal (Pan 2021), Eqs. 3-5; PEERS part 2, 4.
    """
    calibrated = build_ensemble(inner, experts)
    counts = torch.tensor(counts_of(experts, unit), dtype=torch.float32)
    return Calibrated(calibrated, size_divisors(counts, gamma), independent=independent)
