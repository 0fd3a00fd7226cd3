"""LogN: logits normalised by their statistics in recorded training images."""

from longtail.ensembles.build import EnsembleSpec, Experts, build_ensemble
from longtail.ensembles.calibration import LogitNormalized
from longtail.errors import ConfigError


def logn(experts: Experts, *, recording: str, inner: EnsembleSpec = "average") -> LogitNormalized:
    """Normalise the logits for another ensemble: every class gets the deviation 1 and the smallest of the classes' means.

    Args:
        experts: The stages of a cascade.
        recording: folder of recorded training images (`longtail evaluate RUN --split train --record FOLDER`)
        inner: the ensemble of the normalised logits, by name or as {name: dynamic, temperature: 2}

    Raises:
        ConfigError: The experts are no stages of a cascade.
        DataError: There is no recording in the folder.

    Source: LogN (Zhao 2024); PEERS part 2, 4.
    """
    if experts.recorded_logits is None:
        raise ConfigError("logn reads recorded stages of a cascade", fix="choose logit_adjustment, or train a detector")
    normalized = LogitNormalized(build_ensemble(inner, experts), experts.num_experts, experts.groups.num_classes)
    for logits in experts.recorded_logits(recording):
        normalized.observe(logits)
    return normalized
